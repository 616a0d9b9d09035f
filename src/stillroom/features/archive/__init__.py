"""Downloads of many images as one ZIP file."""
