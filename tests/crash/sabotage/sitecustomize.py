"""On the path of a server's processes it makes their storage follow a file of faults."""

from crash.faults import follow_file

follow_file()
