"""What one task does: passes, inner loop, sweep back."""
