class Config:
    def __init__(
        self,
        *,
        max_pool_connections: int,
        request_checksum_calculation: str,
        response_checksum_validation: str,
    ) -> None: ...
