"""SeaweedFS as a cluster: a master, three volume servers, a filer, its S3 side; a process each.

Each image's bytes are in two of the three racks (replication 010), so that any one of the volume
servers may be away. It stands for R2 in what R2 is to Stillroom: a bucket that outlives machines.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.ports import free_ports
from services.process import Process
from services.seaweedfs import weed_binary, write_identities
from waiting import until

_VOLUME_SERVERS = 3
_TWO_RACKS = "010"


@dataclass
class WeedCluster:
    """A running cluster, without a bucket; each volume server is in a rack of its own."""

    endpoint_url: str
    master_url: str
    volumes: list[Process]

    def wait_for_volumes(self) -> None:
        def are_there() -> bool:
            found = httpx.get(f"{self.master_url}/dir/status").json()["Topology"]["DataCenters"]
            racks = [rack for center in found or [] for rack in center["Racks"] or []]
            nodes = [node for rack in racks for node in rack["DataNodes"] or []]
            return len(nodes) == len(self.volumes)

        until(
            are_there, despite=httpx.TransportError,
            as_long_as=lambda: all(volume.is_running for volume in self.volumes),
            said=lambda: [volume.log.read_text()[-1000:] for volume in self.volumes],
        )  # fmt: skip


@contextlib.contextmanager
def weed_cluster(folder: Path) -> Iterator[WeedCluster]:
    weed = weed_binary()
    master, filer, s3, *volume_ports = free_ports(3 + _VOLUME_SERVERS)
    identities = write_identities(folder)
    here = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1")

    def node(name: str, kind: str, *flags: str) -> Process:
        (folder / name).mkdir()
        return Process(name, (weed, "-logtostderr=true", kind, *flags), folder)

    control = node(
        "master", "master", *here, f"-port={master}", f"-mdir={folder / 'master'}",
        "-volumeSizeLimitMB=64", f"-defaultReplication={_TWO_RACKS}",
        "-electionTimeout=1s", "-telemetry=false",
    )  # fmt: skip
    volumes = [
        node(
            f"volume-{number}", "volume", *here, f"-port={port}",
            f"-dir={folder / f'volume-{number}'}", "-max=50", f"-master=127.0.0.1:{master}",
            f"-rack=rack-{number}", "-dataCenter=dc", "-preStopSeconds=0",
        )
        for number, port in enumerate(volume_ports)
    ]  # fmt: skip
    files = node(
        "filer", "filer", *here, f"-port={filer}", f"-master=127.0.0.1:{master}",
        f"-defaultStoreDir={folder / 'filer'}", f"-defaultReplicaPlacement={_TWO_RACKS}",
    )  # fmt: skip
    gateway = node(
        "s3", "s3", "-ip.bind=127.0.0.1", f"-port={s3}", f"-filer=127.0.0.1:{filer}",
        f"-config={identities}", "-port.iceberg=0", "-port.lance=0",
        "-autoCreateBucket=false", "-allowDeleteBucketNotEmpty=false",
    )  # fmt: skip
    cluster = WeedCluster(f"http://127.0.0.1:{s3}", f"http://127.0.0.1:{master}", volumes)
    with contextlib.ExitStack() as stack:
        for each in (control, *volumes, files):
            each.start()
            stack.callback(each.kill)  # on SIGTERM they take their time
        cluster.wait_for_volumes()
        files.wait_until_well(f"http://127.0.0.1:{filer}/")
        gateway.start()
        stack.callback(gateway.kill)
        gateway.wait_until_well(f"{cluster.endpoint_url}/healthz")
        yield cluster
