"""The limit of file descriptors, which a server raises as far as it may."""

import resource

from stillroom.server.descriptors import raise_descriptor_limit


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    before = _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = 1024 if hard == resource.RLIM_INFINITY else hard - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    try:
        assert raise_descriptor_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
