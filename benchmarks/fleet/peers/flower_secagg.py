"""Flower's SecAgg+: the steps of its client modifier and of its server workflow for one round, in one process, nothing sent.

Keys and shares are made by every device. Masking, the dear part, is timed on a few devices and so is their unmasking at the
server; a round costs the server that times the cohort.
"""

from __future__ import annotations

import time

import numpy as np
from common import arguments, peak_mb, tell
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

GIVEN = arguments()
COHORT, LENGTH, SHARES, THRESHOLD, TIMED = (
    GIVEN[name] for name in ("cohort", "length", "shares", "threshold", "timed")
)
MODULUS = 2**32
SETUP = {
    Key.SAMPLE_NUMBER: COHORT,
    Key.SHARE_NUMBER: SHARES,
    Key.THRESHOLD: THRESHOLD,
    Key.CLIPPING_RANGE: 8.0,
    Key.TARGET_RANGE: 2**22,
    Key.MOD_RANGE: MODULUS,
    Key.MAX_WEIGHT: 1000.0,
}
half = SHARES // 2
around = {i: sorted({(i + step) % COHORT for step in range(-half, half + 1)}) for i in range(COHORT)}

began, wall = time.process_time(), time.perf_counter()
states, keys = {}, {}
for i in range(COHORT):
    states[i] = SecAggPlusState(nid=i)
    states[i].nid = i
    made = _setup(states[i], dict(SETUP))
    keys[i] = (made[Key.PUBLIC_KEY_1], made[Key.PUBLIC_KEY_2])
sealed = {i: ([], []) for i in range(COHORT)}
for i in range(COHORT):
    made = _share_keys(states[i], {str(j): keys[j] for j in around[i]})
    for j, text in zip(made[Key.DESTINATION_LIST], made[Key.CIPHERTEXT_LIST], strict=True):
        sealed[j][0].append(i)
        sealed[j][1].append(text)
keys_s = (time.process_time() - began) / COHORT

update = np.random.default_rng(1).normal(size=LENGTH).astype(np.float32)
masked = []
began = time.process_time()
for i in range(TIMED):
    sources, texts = sealed[i]
    given = {Key.CIPHERTEXT_LIST: texts, Key.SOURCE_LIST: sources}
    masked.append(
        _collect_masked_vectors(states[i], given, 10, ndarrays_to_parameters([update]))[Key.MASKED_PARAMETERS]
    )
mask_s = (time.process_time() - began) / TIMED

# Shares of the seeds of the timed devices, from all their neighbours, which open what was sealed to them as they mask.
for i in range(TIMED, COHORT):
    short = {Key.CIPHERTEXT_LIST: sealed[i][1], Key.SOURCE_LIST: sealed[i][0]}
    _collect_masked_vectors(states[i], short, 10, ndarrays_to_parameters([np.zeros(1, dtype=np.float32)]))
shares = {i: [] for i in range(TIMED)}
for i in range(COHORT):
    told = _unmask(states[i], {Key.ACTIVE_NODE_ID_LIST: around[i], Key.DEAD_NODE_ID_LIST: []})
    for owner, share in zip(told[Key.NODE_ID_LIST], told[Key.SHARE_LIST], strict=True):
        if owner in shares:
            shares[owner].append(share)

began = time.process_time()
total = None
for body in masked:
    vector = [bytes_to_ndarray(part) for part in body]
    total = vector if total is None else parameters_addition(total, vector)
total = parameters_mod(total, MODULUS)
for i in range(TIMED):
    secret = combine_shares(shares[i])
    total = parameters_subtraction(total, pseudo_rand_gen(secret, MODULUS, get_parameters_shape(total)))
server_s = (time.process_time() - began) / TIMED * COHORT
tell(
    device_cpu_s=keys_s + mask_s,
    server_cpu_s=server_s,
    bytes_per_param=sum(map(len, masked[0])) / LENGTH,
    timed_devices=TIMED,
    wall_s=time.perf_counter() - wall,
    peak_mb=peak_mb(),
)
