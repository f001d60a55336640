"""What RTPrediction adds."""
