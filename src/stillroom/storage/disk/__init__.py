"""Images as plain files in plain folders, written so that a power cut loses none of them."""
