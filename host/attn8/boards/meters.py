"""What measures the energy of a window: a chip on the board's I2C, the recording of an analyser, or an Otii."""

import re

from .meter_csv import CsvMeter
from .meter_ina import InaMeter
from .meter_otii import OtiiMeter
from .metering import MeterError

_INA_OPTIONS = ("sda", "scl", "shunt", "max", "address")
_KINDS = {
    "ina219": (InaMeter, _INA_OPTIONS),
    "ina226": (InaMeter, _INA_OPTIONS),
    "csv": (CsvMeter, ("volts", "marker")),
    "otii": (OtiiMeter, ()),
}


def meter(text, say=lambda text: None):
    """Returns the Meter that a text names.

    Args:
        text: "ina219:..." or "ina226:sda=4,scl=5,shunt=0.1,max=0.4,address=0x40", "csv:FILE,volts=3.3,marker=D0",
            "otii" or "otii:HOST:PORT".
        say: gets a sentence where a person must do something.

    Raises:
        MeterError: if it names none.
    """
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise MeterError(f"unknown meter {kind!r}; expected one of: {', '.join(_KINDS)}, such as ina226:sda=4,scl=5")
    parts, options = rest.split(","), {}
    while parts and re.fullmatch(r"[a-z]+=[^,]*", parts[-1]):
        key, _, value = parts.pop().partition("=")
        options[key] = value
    make, known = _KINDS[kind]
    for key in options:
        if key not in known:
            raise MeterError(f"meter {kind}: unknown option {key!r}; expected {', '.join(known) or 'none'}")
    return make(kind, ",".join(parts), options, say)
