# Layout, optimizers, the exchange of gradients, ranks' own states, schedules and the arithmetic of a step's times know no tensor: without Torch they build fast, and
# under the sanitizers. Included by worker/CMakeLists.txt, where they are there without LOCKSTEP_TORCH too.
lockstep_room(worker_optim
  SOURCES train/communication.cc train/communication_cache.cc train/faults.cc train/flat_memory.cc train/gradient_exchange.cc
          train/hierarchical_exchange.cc train/layout.cc train/local_exchange.cc train/rank_states.cc train/run_clock.cc train/replica_check.cc train/schedule.cc
          train/span_optimizer.cc train/step_times.cc train/step_trace.cc train/sync_period.cc train/window_exchange.cc
  DEPS lockstep_proto common_base common_checkpoint worker_comm_core common_trace absl::span absl::status absl::strings
       absl::str_format absl::time
  PRIVATE_DEPS PkgConfig::xxhash)
set_source_files_properties(train/span_optimizer.cc PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=off;-fno-math-errno")
