#include "coordinator/store/schema.h"

namespace lockstep {

const char kJournalSchema[] = R"sql(
CREATE TABLE "update" (
  seq INTEGER PRIMARY KEY,
  time REAL NOT NULL,
  body BLOB NOT NULL,   -- lockstep.Update, serialized
  json TEXT NOT NULL,   -- the same, for people
  seal TEXT NOT NULL    -- XXH3-64 of the seal before and of this row, 16 hexadecimal digits
);
)sql";

// Without a rowid the rows lie in the order of the key, which is the order of writing: no second tree to keep.
const char kRunDbSchema[] = R"sql(
CREATE TABLE step (
  step INTEGER NOT NULL, epoch INTEGER, time REAL, loss REAL, samples INTEGER, lr REAL,
  step_s REAL, data_wait_s REAL, forward_s REAL, backward_s REAL, comm_exposed_s REAL, optimizer_s REAL, other_s REAL,
  step_max_s REAL, comm_busy_s REAL, comm_wait_s REAL, comm_transfer_s REAL, overlap_ratio REAL, comm_interval_s REAL,
  last_rank INTEGER, grad_bytes INTEGER, wire_bytes INTEGER, grad_norm REAL,
  timing TEXT,         -- how wait was told from transfer: arrivals, durations
  clock_error_s REAL,  -- bound, the largest over the ranks
  incarnation INTEGER NOT NULL, survived INTEGER NOT NULL,
  PRIMARY KEY (incarnation, step)
) WITHOUT ROWID;
CREATE TABLE rank_step (
  step INTEGER NOT NULL, rank INTEGER NOT NULL, start REAL,
  step_s REAL, data_wait_s REAL, forward_s REAL, backward_s REAL, comm_exposed_s REAL, optimizer_s REAL, other_s REAL,
  epoch INTEGER, loss REAL, samples INTEGER, arrival REAL,
  comm_busy_s REAL, comm_overlap_s REAL, comm_wait_s REAL, comm_transfer_s REAL, comm_interval_s REAL,
  grad_bytes INTEGER, wire_bytes INTEGER,
  input_read_s REAL, input_decode_s REAL, input_ready INTEGER, clock_error_s REAL,
  incarnation INTEGER NOT NULL, survived INTEGER NOT NULL,
  update_wait_s REAL,  -- of comm_wait_s
  PRIMARY KEY (incarnation, step, rank)
) WITHOUT ROWID;
CREATE TABLE collective (
  step INTEGER NOT NULL, seq INTEGER NOT NULL, name TEXT, grad_bytes INTEGER, wire_bytes INTEGER, algorithm TEXT,
  first_arrival REAL, last_arrival REAL, "end" REAL, last_rank INTEGER, algbw REAL, busbw REAL,
  wait_s REAL, transfer_s REAL, timing TEXT,
  incarnation INTEGER NOT NULL, survived INTEGER NOT NULL,
  PRIMARY KEY (incarnation, step, seq)
) WITHOUT ROWID;
CREATE TABLE span (  -- what the threads of a rank did in a sampled step
  step INTEGER NOT NULL, rank INTEGER NOT NULL, number INTEGER NOT NULL,
  thread TEXT NOT NULL,  -- trainer, communication, input
  name TEXT, start REAL, "end" REAL, flops REAL,
  seq INTEGER, arrival REAL,  -- of a collective
  incarnation INTEGER NOT NULL, survived INTEGER NOT NULL,
  PRIMARY KEY (incarnation, step, rank, number)
) WITHOUT ROWID;
CREATE TABLE message (  -- between two hosts, of a collective of a sampled step; its first ones
  step INTEGER NOT NULL, seq INTEGER NOT NULL, number INTEGER NOT NULL,
  "from" INTEGER, "to" INTEGER,  -- ranks
  bytes INTEGER, sent REAL,      -- handed to MPI
  ready REAL,                    -- the receiver had made room for it
  came REAL,
  incarnation INTEGER NOT NULL, survived INTEGER NOT NULL,
  PRIMARY KEY (incarnation, step, seq, number)
) WITHOUT ROWID;
CREATE TABLE clock (  -- how a rank's clock stood to rank 0's
  rank INTEGER NOT NULL, time REAL NOT NULL, offset_s REAL, drift REAL, error_s REAL, drift_error REAL,
  incarnation INTEGER NOT NULL,
  PRIMARY KEY (incarnation, rank, time)
) WITHOUT ROWID;
CREATE TABLE dropped (  -- what was lost of a rank's since its launch: step records, spans of sampled steps
  rank INTEGER NOT NULL, records INTEGER NOT NULL, spans INTEGER NOT NULL, incarnation INTEGER NOT NULL,
  PRIMARY KEY (incarnation, rank)
) WITHOUT ROWID;
CREATE TABLE epoch (
  epoch INTEGER NOT NULL, steps INTEGER, samples INTEGER, fingerprint TEXT, expected_fingerprint TEXT, seconds REAL,
  incarnation INTEGER NOT NULL, survived INTEGER NOT NULL,
  PRIMARY KEY (incarnation, epoch)
) WITHOUT ROWID;
CREATE TABLE evaluation (
  step INTEGER NOT NULL, epoch INTEGER, split TEXT NOT NULL, metric TEXT NOT NULL, value REAL,
  samples INTEGER, seconds REAL,
  incarnation INTEGER NOT NULL, survived INTEGER NOT NULL,
  PRIMARY KEY (incarnation, step, split, metric)
) WITHOUT ROWID;
CREATE TABLE decision (
  time REAL NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL, rule TEXT NOT NULL, reason TEXT,
  directive INTEGER, signal INTEGER, failure INTEGER
);
CREATE TABLE checkpoint (
  step INTEGER PRIMARY KEY, path TEXT, bytes INTEGER, snapshot_s REAL, write_s REAL, committed REAL, best INTEGER
);
CREATE TABLE communication (  -- the ways of an all-reduce between processes, at a size and about it
  bytes INTEGER NOT NULL,      -- measured; where nothing was: the smallest that goes this way
  algorithm TEXT NOT NULL, seconds REAL, chosen INTEGER NOT NULL, structure TEXT NOT NULL, source TEXT NOT NULL,
  incarnation INTEGER NOT NULL,
  PRIMARY KEY (incarnation, bytes, algorithm)
) WITHOUT ROWID;
CREATE TABLE rank (
  rank INTEGER NOT NULL, incarnation INTEGER NOT NULL, host TEXT, pid INTEGER, cores INTEGER,  -- that it may run on
  joined REAL, "left" REAL, why TEXT,
  PRIMARY KEY (incarnation, rank)
) WITHOUT ROWID;
CREATE TABLE shown (through INTEGER NOT NULL);  -- the last update of journal.db that the tables show
INSERT INTO shown VALUES (0);
)sql";

}  // namespace lockstep
