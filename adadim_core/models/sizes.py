"""What counts as a small image, for all networks."""

SMALL_IMAGE = 64
"""Largest side in pixels for which a ResNet gets the CIFAR stem and a ViT the smaller grid of patches."""
