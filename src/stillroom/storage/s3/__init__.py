"""S3, spoken over HTTP: requests signed, sent, tried again, answers read."""
