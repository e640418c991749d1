//! Lets aya copy the ABI's types into and out of maps as bytes.

use crate::stats::{DropCounts, DropKey, TapCounts, TapKey};
use crate::{Arguments, Counters, Filter, Offsets};

// SAFETY: `repr(C)`, integers only, no padding (sizes asserted in the crate root): every bit pattern is valid.
unsafe impl aya::Pod for Counters {}
// SAFETY: as above.
unsafe impl aya::Pod for Filter {}
// SAFETY: as above.
unsafe impl aya::Pod for Offsets {}
// SAFETY: as above.
unsafe impl aya::Pod for Arguments {}
// SAFETY: as above.
unsafe impl aya::Pod for TapKey {}
// SAFETY: as above.
unsafe impl aya::Pod for TapCounts {}
// SAFETY: as above.
unsafe impl aya::Pod for DropKey {}
// SAFETY: as above.
unsafe impl aya::Pod for DropCounts {}
