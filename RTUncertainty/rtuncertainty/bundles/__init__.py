"""Models as bundles: the card and its schema, loading, whether an image is one that the model is for."""
