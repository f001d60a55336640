"""What makes an error bar hold: fits on patients that the weights have not seen."""
