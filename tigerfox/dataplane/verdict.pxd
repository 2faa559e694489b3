# From matched rules to one decision. See verdict.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from tigerfox.dataplane.image cimport RuleSet
from tigerfox.dataplane.packet cimport PACKET_MATCHES, Packet
from tigerfox.dataplane.rates cimport RateTable
from tigerfox.dataplane.reason cimport Reason

cdef struct Decision:
    Reason reason                # R_DEFAULT, R_ALERT, R_PASS, R_DROP or R_REJECT
    uint32_t rule                # rule number that decided, or NO_RULE
    uint8_t action               # RuleAction of that rule
    uint8_t block_scope          # BlockScope: what goes into the block table
    uint8_t alert_count
    uint8_t pass_flow            # a pass rule means the rest of the flow too
    uint16_t inspector           # who is asked about the packet when it passes, 0 nobody
    uint16_t inspect_flow        # and about the rest of its connection
    uint32_t inspect_sid         # of the rule that says so
    uint32_t block_seconds
    uint32_t alerts[PACKET_MATCHES]  # rule numbers that fire, in order

# Applies rates and the order of actions to p.matches.
cdef void verdict_decide(const RuleSet *rs, RateTable *rates, const Packet *p, Decision *d) noexcept nogil
