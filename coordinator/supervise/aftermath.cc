#include "coordinator/supervise/aftermath.h"

#include <poll.h>

#include <csignal>
#include <vector>

#include "absl/time/clock.h"
#include "common/base/file.h"
#include "coordinator/supervise/process.h"

namespace lockstep {

void CleanUpAfterSupervisor(const ProcessMark& mark, const std::string& scratch, const std::string& run_folder,
                            const RuntimeRecords& records, absl::Duration patience) {
  const absl::Time kill_at = absl::Now() + patience, give_up_at = kill_at + absl::Seconds(1);
  for (;;) {
    const std::vector<pid_t> left = ProcessesWithVariable(mark.variable, mark.value);
    if (left.empty() || absl::Now() >= give_up_at) break;
    if (absl::Now() >= kill_at) {
      for (const pid_t pid : left) kill(pid, SIGKILL);
    }
    poll(nullptr, 0, 20);
  }
  if (!scratch.empty()) FileSystem::Real()->RemoveAll(scratch).IgnoreError();
  records.Remove(run_folder);
}

}  // namespace lockstep
