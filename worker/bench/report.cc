#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "worker/bench/allreduce.h"

namespace lockstep {

std::string LimitText(const BenchLimit& limit) {
  std::string text = absl::StrFormat("%d ranks on %d host%s", limit.world, limit.hosts, limit.hosts > 1 ? "s" : "");
  if (limit.hosts > 1) {
    absl::StrAppendFormat(&text, "; link %.1f MB/s each way at once, %.1f MB/s one way", limit.link * 1e-6,
                          limit.link_alone * 1e-6);
  }
  absl::StrAppendFormat(&text, "; memory copies of all ranks of a host %.1f GB/s\n", limit.copy * 1e-9);
  return text + "times in ms, of the slowest rank; bandwidths in GB/s; limit: time at the " +
         (limit.hosts > 1 ? "link's" : "memory's") + " limit over p50;\n"
         "time/MPI_Allreduce: of calls back to back\n";
}

std::string TableHeader() {
  return absl::StrFormat("%12s  %-13s %9s %9s %9s %7s %7s %6s  %s\n", "bytes", "algorithm", "p10", "p50", "p90",
                         "algbw", "busbw", "limit", "time/MPI_Allreduce");
}

std::string TableRow(const AllReduceFigures& f) {
  std::string row =
      absl::StrFormat("%12d  %-13s %9.3f %9.3f %9.3f %7.3f %7.3f %5.1f%%", f.bytes, f.algorithm, f.p10_s * 1e3,
                      f.p50_s * 1e3, f.p90_s * 1e3, f.algbw * 1e-9, f.busbw * 1e-9, f.of_limit * 100);
  const Ratio& r = f.to_reference;
  const int digits = r.high < 10 ? 2 : r.high < 100 ? 1 : 0;
  if (r.low < r.high) absl::StrAppendFormat(&row, "  %.*f (%.*f…%.*f)", digits, r.mean, digits, r.low, digits, r.high);
  return row + "\n";
}

std::string BenchJson(const BenchLimit& limit, const std::vector<AllReduceFigures>& figures) {
  nlohmann::json json = {{"world", limit.world},           {"hosts", limit.hosts},
                         {"link_bytes_per_s", limit.link}, {"link_alone_bytes_per_s", limit.link_alone},
                         {"copy_bytes_per_s", limit.copy}, {"results", nlohmann::json::array()}};
  for (const AllReduceFigures& f : figures) {
    json["results"].push_back(
        {{"algorithm", f.algorithm},
         {"bytes", f.bytes},
         {"calls", f.calls},
         {"call_s", f.call_s},
         {"p10_s", f.p10_s},
         {"p50_s", f.p50_s},
         {"p90_s", f.p90_s},
         {"algbw", f.algbw},
         {"busbw", f.busbw},
         {"of_limit", f.of_limit},
         {"to_reference",
          {{"mean", f.to_reference.mean}, {"low", f.to_reference.low}, {"high", f.to_reference.high}}}});
  }
  return json.dump() + "\n";
}

}  // namespace lockstep
