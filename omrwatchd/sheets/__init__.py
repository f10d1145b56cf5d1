"""What is inside a ZIP: its sheets, whether it is whole, and the parts it is delivered in."""
