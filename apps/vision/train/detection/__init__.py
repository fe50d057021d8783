"""Training of detectors: data on the device, augmentation there, and the accuracy of boxes."""
