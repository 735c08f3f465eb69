"""The caches of compilers: a folder of this node while ranks run, and a shared folder between jobs.

Triton and Inductor write and read their folders as if all processes were on one machine. On a network file system a
rank of another node sees a file that is gone, misses one that is there, or gets two compilations' files in one kernel.
So ranks only ever see a folder of their own node. It is filled from the shared one before they start, and given back
by one node after they have ended well.
"""
