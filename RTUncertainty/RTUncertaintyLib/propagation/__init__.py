"""What RTPropagation adds."""
