"""Images as objects in a bucket, Cloudflare R2 or any that speaks S3, served by a CDN."""
