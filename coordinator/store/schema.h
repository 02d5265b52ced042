#pragma once

#include "coordinator/store/sqlite.h"

namespace lockstep {

// "LkJ" and "LkR" with the byte 1, as `file` and SQLite's tools show it.
inline constexpr FileIdentity kJournalIdentity{"journal", 0x4c6b4a01, 2};
inline constexpr FileIdentity kRunDbIdentity{"run database", 0x4c6b5201, 4};

// The tables of run.db, in the order in which the writer fills their columns. Times of day are seconds since 1970,
// durations seconds, sizes bytes, bandwidths bytes a second; NULL: not known or not finite.
extern const char kRunDbSchema[];
extern const char kJournalSchema[];

}  // namespace lockstep
