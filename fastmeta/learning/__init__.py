"""What every algorithm shares: fitting, adapting, saving."""
