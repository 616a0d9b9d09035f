"""Bucket backend: images as objects in Cloudflare R2 or any S3 service, served by a CDN."""
