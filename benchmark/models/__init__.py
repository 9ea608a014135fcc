"""What a finished run is used for: prediction, scores on other images, export."""
