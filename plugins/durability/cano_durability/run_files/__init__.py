"""The format of the files of runs. This room knows records, but neither stores nor kernels."""
