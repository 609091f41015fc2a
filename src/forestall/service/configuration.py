"""How a running Forestall is set; each attribute is a key of ``forestall.toml``, table by table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from forestall.model.mode import Mode as Mode
from forestall.model.resources import Resource


@dataclass(frozen=True)
class HostConfiguration:
    """Table ``[host]``: what there is to share.

    Attributes
    ----------
    reserved_cores, reserved_bytes
        Kept back for the host itself.
    cpu_allocation_ratio, memory_allocation_ratio
        How much may be promised for each unit there is.
    """

    reserved_cores: float = 0.0
    reserved_bytes: float = 0.0
    cpu_allocation_ratio: float = 1.0
    memory_allocation_ratio: float = 1.0


@dataclass(frozen=True)
class ActuatorConfiguration:
    """Table ``[actuators]``: what may be moved, and by which means.

    Attributes
    ----------
    cpu
        ``quota``, and with it ``+shares`` (shares follow the quota), ``+hotplug`` (vCPUs are added, too, up to the
        VM's maximum), or both in this order; or ``off``.
    memory
        ``auto`` (virtio-mem where the VM has it, else the balloon), ``balloon``, ``virtio-mem`` or ``off``.
    disk
        ``iotune`` or ``off``.
    network
        ``tc`` or ``off``.
    """

    cpu: str = "quota"
    memory: str = "auto"
    disk: str = "off"
    network: str = "off"


@dataclass(frozen=True)
class SafetyConfiguration:
    """Table ``[safety]``: what is never crossed, and when to let go.

    Attributes
    ----------
    lease_seconds
        A grant that is not renewed for so long is taken back: the VM is set as it was.
    floor_share
        A VM keeps at least this share of its limit of CPU and memory, whatever is predicted.
    floor_cores, floor_bytes
        And at least this much.
    stale_seconds
        Samples older than this: drop to observe. 0: three sampling steps.
    clock_jump_seconds
        A clock that moves by more than this against the monotonic one: drop to observe.
    actuator_errors
        So many failed actions in a row: drop to observe.
    forecast_failures
        So many failed cycles in a row: drop to observe.
    crashes
        So many unclean ends within an hour: start in observe.
    recover_seconds
        After so long without a fault the mode that was asked for is taken up again; 0: never by itself.
    """

    lease_seconds: int = 60
    floor_share: float = 0.05
    floor_cores: float = 0.1
    floor_bytes: float = 128.0 * 1024 * 1024
    stale_seconds: int = 0
    clock_jump_seconds: float = 30.0
    actuator_errors: int = 5
    forecast_failures: int = 3
    crashes: int = 3
    recover_seconds: int = 300


@dataclass(frozen=True)
class TimeLapseConfiguration:
    """Table ``[time_lapse]``: for guests whose days are short, as the lab's. All seconds of the file are then theirs.

    Attributes
    ----------
    pace
        How many seconds pass for them in one of the host's; 1: none.
    midnight_at
        Instant of the host's clock, seconds UTC, at which their Monday began.
    """

    pace: float = 1.0
    midnight_at: float = 0.0


@dataclass(frozen=True)
class StoreConfiguration:
    """Table ``[store]``: where what was measured is kept.

    Attributes
    ----------
    url
        A PostgreSQL database, as ``postgresql://HOST/NAME``; empty: a DuckDB file in the state folder. What the URL
        leaves out, and the password, libpq takes from its environment and files.
    """

    url: str = ""


@dataclass(frozen=True)
class LearningConfiguration:
    """Table ``[learning]``: training of the recurrent models beside the loop.

    Attributes
    ----------
    retrain
        ``auto`` (where the extra ``train`` is installed) or ``off``.
    retrain_hours
        At least so often; more often while the past is short, and when forecasts become worse.
    cpu_seconds
        A training may use so much CPU time; one that is not done by then is ended: resources that it has not come to
        keep their models.
    """

    retrain: str = "auto"
    retrain_hours: int = 240
    cpu_seconds: int = 3_600


@dataclass(frozen=True)
class BurstConfiguration:
    """Table ``[burst]``: lending cores that are idle for tenths of a second; who borrows is said in the policies.

    Attributes
    ----------
    loop
        ``auto`` (where a policy names borrowers) or ``off``.
    window_ms
        A reservation holds for so long.
    beat_ms
        Every so often it is looked at who ran and who waited.
    violation_budget
        Share of windows in which lenders together may want more than is reserved.
    whole_cores
        Lend whole cores: borrowers are kept off the others by cpuset, below one by a quota. Else a quota lends parts of
        cores too, and makes lenders wait now and then.
    """

    loop: str = "auto"
    window_ms: int = 100
    beat_ms: int = 25
    violation_budget: float = 0.01
    whole_cores: bool = True


@dataclass(frozen=True)
class StagingConfiguration:
    """Table ``[staging]``: memory and blocks of disks made ready before a VM asks, in trust groups where it is enabled.

    Attributes
    ----------
    memory
        ``auto`` (for the VMs of trust groups whose shadowing is enabled) or ``off``.
    horizon_seconds
        A page that is not touched within so long of being staged is given back; a trust group may have its own.
    staged_bytes
        At most so much is staged, for all VMs together.
    block_bytes
        Memory is staged in blocks of this size.
    keep_free_bytes
        Nothing is staged while the host has less free memory than this.
    least_precision
        A trust group of whose staged pages a smaller share is touched is not staged for, until that would be better.
    core_ratio_per_ten_vms
        Share of a core that staging may use for ten VMs, or for a part of them; memory as much, and blocks.
    blocks
        ``auto``: also blocks of their disks are brought into the host's page cache ahead; or ``off``. For it QEMU is
        asked over its monitor to trace block requests, and libvirt marks such VMs as tainted.
    cached_bytes
        At most so much was brought into the page cache and has not been read yet, for all VMs together.
    log_bytes
        The log of accesses is at most this large, of memory as much as of blocks; 0: there is none.
    memory_use
        What tells which memory VMs use: ``marks`` (those of use in their page tables: how much), or ``damon`` (the
        kernel's data access monitor, where nobody else uses it: which addresses, and how often).
    """

    memory: str = "auto"
    blocks: str = "off"
    cached_bytes: int = 256 * 1024 * 1024
    log_bytes: int = 256 * 1024 * 1024
    horizon_seconds: float = 30.0
    staged_bytes: int = 256 * 1024 * 1024
    block_bytes: int = 1024 * 1024
    keep_free_bytes: int = 1024 * 1024 * 1024
    least_precision: float = 0.5
    core_ratio_per_ten_vms: float = 0.01
    memory_use: str = "marks"


@dataclass(frozen=True)
class TierConfiguration:
    """Table ``[tiers]``: storage of several kinds, and disks of VMs moved between them while the VMs run.

    Attributes
    ----------
    names
        Storage pools of libvirt, or folders from the root; the quickest first. Empty: disks are not looked after.
    request_ms
        How long a request takes on each, in milliseconds; only ratios count.
    moves
        ``auto`` (a disk is moved where that pays) or ``off`` (by order only).
    move_bytes_per_s
        So fast an image is copied at the most.
    look_ahead_hours, gain_ratio
        What a move saves within so many hours must be so many times what it costs.
    least_seen_hours
        A disk that is known for less is left where it is.
    keep_free_bytes
        So much stays free on each.
    old_images
        ``remove`` (once the VM runs and starts on the new one, and nothing else uses it) or ``keep``.
    """

    names: tuple[str, ...] = ()
    request_ms: tuple[float, ...] = ()
    moves: str = "off"
    move_bytes_per_s: int = 50 * 1024 * 1024
    look_ahead_hours: int = 24
    gain_ratio: float = 2.0
    least_seen_hours: int = 6
    keep_free_bytes: int = 10 * 1024 * 1024 * 1024
    old_images: str = "remove"


@dataclass(frozen=True)
class GuestConfiguration:
    """Table ``[guests]``: what runs inside VMs.

    Attributes
    ----------
    channel
        ``auto`` (to every VM that has a port for the agent) or ``off``.
    """

    channel: str = "auto"


@dataclass(frozen=True)
class ApplicationConfiguration:
    """Table ``[applications]``: recognising what runs in VMs.

    Attributes
    ----------
    traffic
        ``auto`` (a sample of each VM's traffic is listened to now and then, where the extra ``traffic`` is installed
        and we are root) or ``off``: by behaviour alone.
    summary_vms
        A number of VMs that leaves a trust group is at least this, or is not told.
    """

    traffic: str = "auto"
    summary_vms: int = 10


@dataclass(frozen=True)
class ControllerConfiguration:
    """Table ``[controller]``: the one place where what VMs are like is kept for many hosts.

    Attributes
    ----------
    url
        On a host: where to send feature vectors, ``https://NAME:PORT``; empty: nowhere.
    listen
        On the controller: address and port that hosts reach it by.
    certificate, key, authority, revoked
        Files: who we are, whom we believe, and whom no longer; ``forestall pki``.
    spool_bytes, spool_seconds
        On a host: how much, and how old, what waits for a controller that is away may become.
    """

    url: str = ""
    listen: str = "0.0.0.0:7443"
    certificate: Path = Path("/etc/forestall/host.pem")
    key: Path = Path("/etc/forestall/host.key")
    authority: Path = Path("/etc/forestall/ca.pem")
    revoked: Path = Path("/etc/forestall/crl.pem")
    spool_bytes: int = 256 * 1024 * 1024
    spool_seconds: int = 86_400


@dataclass(frozen=True)
class ApiConfiguration:
    """Table ``[api]``: the API over HTTP; ``forestall token create`` makes tokens for it.

    Attributes
    ----------
    listen
        Address and port; empty: there is none.
    certificate, key
        Files for TLS, the chain in the first. Without them it listens at this machine's own addresses only.
    """

    listen: str = ""
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class SignInConfiguration:
    """Table ``[sign_in]``: people sign in to the pages by a provider of identities (OpenID Connect) instead of a token.

    Attributes
    ----------
    issuer
        Its address; empty: there is none.
    name
        What it is called on the page.
    client_id, client_secret_file
        As what it knows us, and the file with the secret for that, if it gave one.
    address
        Of our pages, as browsers see them; they come back to ``/login/back`` there.
    scopes
        What is asked of it beside ``openid``.
    name_claim, groups_claim
        Where it says what people are called, and in which groups they are.
    viewers, operators, admins
        Groups whose members have these roles.
    trust_groups_claim
        Where it says of which trust groups they see VMs; empty: they see all.
    """

    issuer: str = ""
    name: str = "single sign-on"
    client_id: str = "forestall"
    client_secret_file: Path | None = None
    address: str = ""
    scopes: str = "profile email"
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    viewers: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    trust_groups_claim: str = ""


@dataclass(frozen=True)
class FabricConfiguration:
    """Table ``[fabric]``: the network between VMs; ``forestall fabric run`` reads it.

    Attributes
    ----------
    listen
        Where switches connect, as their controller is called in ovs-vsctl(8): ``ptcp:PORT[:ADDRESS]``, ``punix:PATH``,
        or ``pssl:PORT[:ADDRESS]`` with the certificate, key and authority of ``[controller]``.
    databases
        Of Open vSwitch, one for each host; those of other hosts as ``tcp:ADDRESS:PORT``.
    topology
        File that says how switches are connected; None: they are asked, by LLDP.
    step_seconds
        Every so often traffic is read and ways are planned.
    most_pairs
        Ways are planned for so many pairs of interfaces.
    link_bytes_per_s
        What each link carries; 0: what its ports say.
    queues
        ``auto`` (each port sends by classes, each with its guarantee) or ``off``.
    limits
        ``auto`` (a VM may send what it is allotted) or ``off``.
    latency_sensitive, interactive, bulk, background
        Patterns of the names of VMs whose traffic is of that class, whatever is recognised in them.
    """

    listen: str = "ptcp:6653:127.0.0.1"
    databases: tuple[str, ...] = ("unix:/run/openvswitch/db.sock",)
    topology: Path | None = None
    step_seconds: float = 10.0
    most_pairs: int = 1_000
    link_bytes_per_s: float = 0.0
    queues: str = "off"
    limits: str = "off"
    latency_sensitive: tuple[str, ...] = ()
    interactive: tuple[str, ...] = ()
    bulk: tuple[str, ...] = ()
    background: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """Top-level keys and tables of ``forestall.toml``.

    Attributes
    ----------
    connect
        libvirt URI.
    mode
        How far to go.
    canary_share
        Share of the VMs that are acted on in mode ``canary``; which ones follows from their names.
    step_seconds
        Sampling step and length of a cycle.
    violation_budget
        Share of its intervals in which a VM may fall short, where no policy says otherwise.
    cold_seconds
        A VM that has been seen for less time counts at its limit and is left as it is.
    max_changes_per_vm_hour
        Limit on changes; 0: none.
    resources
        What is observed and decided about.
    vms
        Patterns of the names of VMs that are acted on; the others are observed.
    policies
        File of policies; None: equal weights, no floors.
    state_folder
        Originals, behaviour store (unless ``[store]`` says otherwise) and journal, lock, heartbeat and socket.
    """

    connect: str = "qemu:///system"
    mode: Mode = Mode.ADVISE
    canary_share: float = 0.1
    step_seconds: int = 10
    violation_budget: float = 0.01
    cold_seconds: int = 900
    max_changes_per_vm_hour: float = 0.0
    resources: tuple[Resource, ...] = (Resource.CPU, Resource.MEMORY)
    vms: tuple[str, ...] = ("*",)
    policies: Path | None = None
    state_folder: Path = Path("/var/lib/forestall")
    host: HostConfiguration = field(default_factory=HostConfiguration)
    actuators: ActuatorConfiguration = field(default_factory=ActuatorConfiguration)
    safety: SafetyConfiguration = field(default_factory=SafetyConfiguration)
    store: StoreConfiguration = field(default_factory=StoreConfiguration)
    learning: LearningConfiguration = field(default_factory=LearningConfiguration)
    burst: BurstConfiguration = field(default_factory=BurstConfiguration)
    staging: StagingConfiguration = field(default_factory=StagingConfiguration)
    tiers: TierConfiguration = field(default_factory=TierConfiguration)
    guests: GuestConfiguration = field(default_factory=GuestConfiguration)
    applications: ApplicationConfiguration = field(default_factory=ApplicationConfiguration)
    fabric: FabricConfiguration = field(default_factory=FabricConfiguration)
    controller: ControllerConfiguration = field(default_factory=ControllerConfiguration)
    api: ApiConfiguration = field(default_factory=ApiConfiguration)
    sign_in: SignInConfiguration = field(default_factory=SignInConfiguration)
    time_lapse: TimeLapseConfiguration = field(default_factory=TimeLapseConfiguration)
