"""The four functions of each layer, written like the equations."""
