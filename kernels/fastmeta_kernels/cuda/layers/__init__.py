"""The functions of each layer on the device."""
