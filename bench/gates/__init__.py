"""What can be known of kernels without a GPU, gated by numbers in the repository.

    sass.py    registers, spills and instructions, from the machine code of fastconv._cuda
    trace.py   sectors, bank conflicts and bytes, from the trace build of the emulator, for the calls in rows/

Each compares with the numbers of its .json file, which `python -m bench gates --update` rewrites.
"""
