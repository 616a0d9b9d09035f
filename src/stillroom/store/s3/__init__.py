"""S3 over HTTP: signatures, requests, retries and responses."""
