"""What weather, sensors and files do to an image, without an adversary: one file each, at five severities.

The strengths are those of CIFAR-10-C (Hendrycks and Dietterich, ICLR 2019, `make_cifar_c.py` of their code), for
images of 32x32. Noise, contrast, brightness and JPEG do not depend on the size of an image. A blur does: its width is
in pixels of an image of 32 a side. It grows with larger images, and does not shrink with smaller ones, where a fraction
of a pixel would be no blur at all: on 8x8 digits the same sigma of 0.4 to 1 pixel is four times as wide beside what it
blurs. Unlike in the published files, nothing is rounded to bytes but by JPEG, whose format it is.
"""
