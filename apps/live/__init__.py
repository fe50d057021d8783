"""The camera of this device, looked through live."""
