# What the nodes use of `torch`, which this project does not install.
from typing import Any

from numpy.typing import NDArray

class Tensor: ...

def from_numpy(array: NDArray[Any]) -> Tensor: ...
