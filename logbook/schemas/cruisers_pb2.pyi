from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Value(_message.Message):
    __slots__ = ("quantity", "number", "reason")
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    quantity: str
    number: float
    reason: str
    def __init__(self, quantity: _Optional[str] = ..., number: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Reading(_message.Message):
    __slots__ = ("sensor", "head_boot", "sequence", "boottime_ns", "raw", "values", "profile")
    SENSOR_FIELD_NUMBER: _ClassVar[int]
    HEAD_BOOT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    sensor: str
    head_boot: int
    sequence: int
    boottime_ns: int
    raw: bytes
    values: _containers.RepeatedCompositeFieldContainer[Value]
    profile: str
    def __init__(self, sensor: _Optional[str] = ..., head_boot: _Optional[int] = ..., sequence: _Optional[int] = ..., boottime_ns: _Optional[int] = ..., raw: _Optional[bytes] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., profile: _Optional[str] = ...) -> None: ...

class Trim(_message.Message):
    __slots__ = ("sensor", "head_boot", "trim")
    SENSOR_FIELD_NUMBER: _ClassVar[int]
    HEAD_BOOT_FIELD_NUMBER: _ClassVar[int]
    TRIM_FIELD_NUMBER: _ClassVar[int]
    sensor: str
    head_boot: int
    trim: bytes
    def __init__(self, sensor: _Optional[str] = ..., head_boot: _Optional[int] = ..., trim: _Optional[bytes] = ...) -> None: ...

class Imu(_message.Message):
    __slots__ = ("boottime_ns", "values")
    BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    boottime_ns: int
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, boottime_ns: _Optional[int] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class HeadFrames(_message.Message):
    __slots__ = ("head_boot", "first_sequence", "last_sequence")
    HEAD_BOOT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    head_boot: int
    first_sequence: int
    last_sequence: int
    def __init__(self, head_boot: _Optional[int] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("boottime_ns", "valid", "mode", "utc_ns", "latitude", "longitude", "altitude", "speed", "bearing", "horizontal_error", "speed_error", "bearing_error", "time_error", "reason", "raw")
    BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    VALID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UTC_NS_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    ALTITUDE_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    BEARING_FIELD_NUMBER: _ClassVar[int]
    HORIZONTAL_ERROR_FIELD_NUMBER: _ClassVar[int]
    SPEED_ERROR_FIELD_NUMBER: _ClassVar[int]
    BEARING_ERROR_FIELD_NUMBER: _ClassVar[int]
    TIME_ERROR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    boottime_ns: int
    valid: bool
    mode: int
    utc_ns: int
    latitude: float
    longitude: float
    altitude: float
    speed: float
    bearing: float
    horizontal_error: float
    speed_error: float
    bearing_error: float
    time_error: float
    reason: str
    raw: bytes
    def __init__(self, boottime_ns: _Optional[int] = ..., valid: _Optional[bool] = ..., mode: _Optional[int] = ..., utc_ns: _Optional[int] = ..., latitude: _Optional[float] = ..., longitude: _Optional[float] = ..., altitude: _Optional[float] = ..., speed: _Optional[float] = ..., bearing: _Optional[float] = ..., horizontal_error: _Optional[float] = ..., speed_error: _Optional[float] = ..., bearing_error: _Optional[float] = ..., time_error: _Optional[float] = ..., reason: _Optional[str] = ..., raw: _Optional[bytes] = ...) -> None: ...

class ClockMapping(_message.Message):
    __slots__ = ("boottime_ns", "utc_ns", "source", "error_s")
    BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    UTC_NS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_S_FIELD_NUMBER: _ClassVar[int]
    boottime_ns: int
    utc_ns: int
    source: str
    error_s: float
    def __init__(self, boottime_ns: _Optional[int] = ..., utc_ns: _Optional[int] = ..., source: _Optional[str] = ..., error_s: _Optional[float] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("source", "reason", "from_boottime_ns", "to_boottime_ns", "count")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FROM_BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    TO_BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    source: str
    reason: str
    from_boottime_ns: int
    to_boottime_ns: int
    count: int
    def __init__(self, source: _Optional[str] = ..., reason: _Optional[str] = ..., from_boottime_ns: _Optional[int] = ..., to_boottime_ns: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("kind", "source", "boottime_ns", "detail")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    kind: str
    source: str
    boottime_ns: int
    detail: str
    def __init__(self, kind: _Optional[str] = ..., source: _Optional[str] = ..., boottime_ns: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class Health(_message.Message):
    __slots__ = ("source", "boottime_ns", "counters")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    source: str
    boottime_ns: int
    counters: _containers.ScalarMap[str, float]
    def __init__(self, source: _Optional[str] = ..., boottime_ns: _Optional[int] = ..., counters: _Optional[_Mapping[str, float]] = ...) -> None: ...

class BoxFrames(_message.Message):
    __slots__ = ("boottime_ns", "offsets_us", "frames", "box")
    BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_US_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    boottime_ns: int
    offsets_us: _containers.RepeatedScalarFieldContainer[int]
    frames: bytes
    box: str
    def __init__(self, boottime_ns: _Optional[int] = ..., offsets_us: _Optional[_Iterable[int]] = ..., frames: _Optional[bytes] = ..., box: _Optional[str] = ...) -> None: ...
