"""What a vendor's device can do. The one place, with `kernels`, that may know vendors apart."""
