"""Split training: a device trains the lower layers of a model, this computer the others.

Source: arXiv 2506.02940, for one device. The trainer on the device asks through files of its run
(runtime/engine/training/methods/split.cc), which `serving` reads and answers over the device
protocol; `upper` computes the answers with PyTorch.
"""
