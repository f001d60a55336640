"""What RTReview adds."""
