#include "coordinator/report/advice.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

// Advice that gains less is not worth a line.
constexpr double kWorthwhile = 0.02;
// Buckets below this size cost a link's latency more than its bandwidth: 1 Gbit takes half a millisecond for it.
constexpr int64_t kSmallMessage = 64 << 10;
constexpr int kLargeBucketMb = 25;
constexpr size_t kMostNamed = 4;     // ranks, hosts
constexpr double kNearlyAll = 0.95;  // of the steps
constexpr double kMostly = 0.5;      // of a step: what computes less does not gain by more ranks to wait for
constexpr double kBytesShare = 0.5;  // of a transfer: what bytes take less than it of is latency

std::string Milliseconds(double seconds) { return absl::StrFormat("%.*f ms", seconds < 0.01 ? 2 : 1, 1e3 * seconds); }

std::string ShareText(double saving_s, double step_s) { return PercentText(step_s > 0 ? saving_s / step_s : 0); }

std::string ListText(std::vector<std::string> words) {
  const std::string last = words.back();
  words.pop_back();
  return words.empty() ? last : absl::StrCat(absl::StrJoin(words, ", "), " and ", last);
}

class Writer {
 public:
  Writer(const RunConfig& config, const Anatomy& anatomy, Report* report)
      : config_(config), anatomy_(anatomy), report_(report), step_s_(anatomy.step_s) {}

  void Write() {
    for (Finding& cause : *report_->mutable_causes()) Describe(&cause);
    if (report_->causes().empty()) {
      Describe(report_->mutable_verdict());
    } else {
      *report_->mutable_verdict() = report_->causes(0);
    }
    for (const Finding& cause : report_->causes()) {
      if (!cause.after_others()) Advise(cause);
    }
    AdviseThreads();
    AdviseMoreWorkers();
    std::stable_sort(report_->mutable_advice()->begin(), report_->mutable_advice()->end(),
                     [](const Advice& a, const Advice& b) { return a.gain() > b.gain(); });
    // These gain only after the others.
    for (const Finding& cause : report_->causes()) {
      const int before = report_->advice_size();
      if (cause.after_others()) Advise(cause);
      for (int i = before; i < report_->advice_size(); ++i) {
        report_->mutable_advice(i)->mutable_text()->append("; once the cause before it is gone");
      }
    }
  }

 private:
  std::string RanksText(const Finding& finding) const;
  bool AreWholeHosts(const Finding& finding) const;
  void Describe(Finding* finding) const {
    if (absl::StartsWith(finding->cause(), "communication")) finding->set_kind(IsLatency() ? "latency" : "bandwidth");
    finding->set_text(
        absl::StrCat(TextOf(*finding), finding->after_others() ? "; once the cause before it is gone" : ""));
  }
  std::string TextOf(const Finding& finding) const;
  // Whether what looks like communication is waiting for a core: on one host, whose memory is no bottleneck then.
  bool IsForCores() const { return report_->run().crowded() && report_->run().hosts_size() <= 1; }
  bool IsLatency() const;
  int Buckets() const;  // that a step's gradients travel in
  void Advise(const Finding& cause);
  void AdviseOnCommunication();
  void AdviseOnInput(const Finding& cause);
  void AdviseOnStraggler(const Finding& cause);
  void AdviseThreads();
  void AdviseMoreWorkers();
  // If a step took `saving_s` less, and `workers` of all took part.
  void Add(const std::string& setting, const std::string& value, double saving_s, const std::string& text,
           double workers = 1);

  const RunConfig& config_;
  const Anatomy& anatomy_;
  Report* const report_;
  const double step_s_;
};

// Whether these are all ranks of their hosts, of which there are others.
bool Writer::AreWholeHosts(const Finding& finding) const {
  const auto of_these_hosts = [&](const ReportRank& rank) {
    return std::count(finding.hosts().begin(), finding.hosts().end(), rank.host()) > 0;
  };
  const bool all_recorded = report_->ranks_size() == report_->run().workers();
  return all_recorded && finding.hosts_size() < report_->run().hosts_size() &&
         std::count_if(report_->ranks().begin(), report_->ranks().end(), of_these_hosts) == finding.ranks_size();
}

// "rank 1 on host2", "host2 (ranks 2 and 3)"; of many the first.
std::string Writer::RanksText(const Finding& finding) const {
  std::vector<std::string> ranks, hosts;
  for (const int rank : finding.ranks()) ranks.push_back(absl::StrCat(rank));
  for (const std::string& host : finding.hosts()) hosts.push_back(host);
  for (std::vector<std::string>* words : {&ranks, &hosts}) {
    if (words->size() <= kMostNamed) continue;
    const size_t more = words->size() - kMostNamed;
    words->resize(kMostNamed);
    words->push_back(absl::StrCat(more, " more"));
  }
  const std::string named = absl::StrCat(finding.ranks_size() == 1 ? "rank " : "ranks ", ListText(ranks));
  if (hosts.empty()) return named;
  if (finding.ranks_size() > 1 && AreWholeHosts(finding)) return absl::StrCat(ListText(hosts), " (", named, ")");
  return absl::StrCat(named, " on ", ListText(hosts));
}

std::string Writer::TextOf(const Finding& finding) const {
  const double saving_s = finding.saving_s_per_step();
  const std::string cost = absl::StrCat(Milliseconds(saving_s), " a step (", ShareText(saving_s, step_s_), ")");
  if (finding.cause() == "communication-bound") {
    return absl::StrCat("Communication that no computing hides takes ", cost, ": ",
                        IsForCores()                      ? "more threads than cores, so ranks wait for one"
                        : finding.kind() == "latency"     ? "many small messages, whose latency counts"
                        : report_->run().hosts_size() > 1 ? "the bandwidth of the links counts"
                                                          : "the bandwidth of the memory counts");
  }
  if (finding.cause() == "input-bound") {
    return finding.ranks().empty() ? absl::StrCat("The ranks wait for data, which costs ", cost)
                                   : absl::StrCat("All wait for ", RanksText(finding), ", waiting for data: ", cost);
  }
  if (finding.cause() == "straggler-bound" && finding.persistence() == "rotating") {
    return absl::StrCat("Another rank is late each time, and the others wait for it: ", cost);
  }
  if (finding.cause() == "straggler-bound") {
    const std::string often = finding.steps_share() > kNearlyAll
                                  ? "step after step"
                                  : absl::StrCat("in ", PercentText(finding.steps_share()), " of the steps");
    return absl::StrCat("The others wait for ", RanksText(finding), ", ", often, ": ", cost, "; late in ",
                        finding.kind());
  }
  if (finding.kind() == "slower") {
    return absl::StrCat("Computing takes longer than in other steps of the run: ", cost);
  }
  return absl::StrCat("Computing takes ", PercentText(report_->efficiency().parallel()),
                      " of a step; no other lasting cause was found that costs a tenth of it");
}

// By what the bytes alone take over the slowest link, as fitted; by the sizes that travel where no link is known.
bool Writer::IsLatency() const {
  int64_t bytes = 0, messages = 0;
  double seconds = 0;
  for (const ReportCollective& row : report_->collectives()) {
    if (!absl::StartsWith(row.name(), "bucket.")) continue;
    bytes += row.grad_bytes() * row.samples();
    messages += row.samples();
    seconds += row.p50_s() * static_cast<double>(row.samples());
  }
  double slowest = INFINITY;
  for (const ReportLink& link : report_->links()) slowest = std::min(slowest, link.bandwidth_bytes_per_s());
  const auto hosts = static_cast<double>(report_->run().hosts_size());
  if (std::isfinite(slowest)) {
    return 2 * (hosts - 1) / hosts * static_cast<double>(bytes) / slowest < kBytesShare * seconds;
  }
  return messages > 0 && bytes / messages < kSmallMessage;
}

int Writer::Buckets() const {
  return static_cast<int>(
      std::count_if(report_->collectives().begin(), report_->collectives().end(),
                    [](const ReportCollective& row) { return absl::StartsWith(row.name(), "bucket."); }));
}

void Writer::Add(const std::string& setting, const std::string& value, double saving_s, const std::string& text,
                 double workers) {
  const double gain = workers * step_s_ / std::max(1e-9, step_s_ - saving_s) - 1;
  if (!(gain >= kWorthwhile)) return;
  Advice& advice = *report_->add_advice();
  advice.set_setting(setting);
  advice.set_value(value);
  advice.set_gain_s_per_step(saving_s);
  advice.set_gain(gain);
  advice.set_text(text);
}

void Writer::Advise(const Finding& cause) {
  if (cause.cause() == "communication-bound") AdviseOnCommunication();
  if (cause.cause() == "input-bound") AdviseOnInput(cause);
  if (cause.cause() == "straggler-bound") AdviseOnStraggler(cause);
  if (cause.cause() == "compute-bound") {
    Add("", "", cause.saving_s_per_step(),
        "look for processors that are slowed down by heat, or shared with other work");
  }
}

void Writer::AdviseOnCommunication() {
  if (IsForCores()) return;
  const double transfer_s = anatomy_.transfer_s;
  const Communication& communication = config_.communication();
  const bool between_hosts = report_->run().hosts_size() > 1;
  if (IsLatency()) {
    const int messages = communication.bucket_mb() < kLargeBucketMb ? Buckets() : 1;
    Add("communication.bucket_mb", absl::StrCat(kLargeBucketMb), transfer_s * (messages - 1) / std::max(1, messages),
        "one message in place of several");
  } else if (communication.compression() == COMPRESSION_NONE && between_hosts) {
    Add("communication.compression", "bf16", transfer_s / 2, "half the bytes between hosts");
  }
  if (communication.period() == 1) {
    Add("communication.period", "8", transfer_s * 7 / 8,
        "parameters averaged every 8 steps in place of gradients every step: see that accuracy stays");
  }
}

void Writer::AdviseOnInput(const Finding& cause) {
  const ReportRank* slowest = nullptr;
  for (const ReportRank& rank : report_->ranks()) {
    const bool meant = std::count(cause.ranks().begin(), cause.ranks().end(), rank.rank()) > 0;
    if (!cause.ranks().empty() && !meant) continue;
    const auto seconds = [](const ReportRank& r) { return r.input_read_s() + r.input_decode_s(); };
    if (slowest == nullptr || seconds(rank) > seconds(*slowest)) slowest = &rank;
  }
  if (slowest == nullptr) return;
  const double batch_s = slowest->input_read_s() + slowest->input_decode_s();
  if (batch_s > step_s_ - cause.saving_s_per_step()) {
    Add("", "", cause.saving_s_per_step(),
        absl::StrCat(
            "a batch of rank ", slowest->rank(), " takes ", Milliseconds(batch_s),
            " to make ready, longer than a step would: keep the data on a faster disk or decode them beforehand"));
  } else {
    Add("data.prefetch", absl::StrCat(4 * config_.data().prefetch()), cause.saving_s_per_step(),
        "batches are ready in time on average, but not always: hold more of them ready");
  }
}

void Writer::AdviseOnStraggler(const Finding& cause) {
  if (cause.persistence() == "rotating") {
    Add("", "", cause.saving_s_per_step(),
        "look for what else runs on the hosts from time to time, and for more threads than processors");
    return;
  }
  Add("", "", cause.saving_s_per_step(),
      absl::StrCat("mend ", RanksText(cause), ", or move that work to a faster host"));
  // Which ranks there are is the launcher's to say, so only a host can be left out.
  if (!AreWholeHosts(cause)) return;
  const int workers = report_->run().workers(), left = workers - cause.ranks_size();
  Add("--workers", absl::StrCat(left), cause.saving_s_per_step(),
      absl::StrCat("take ", ListText({cause.hosts().begin(), cause.hosts().end()}),
                   " off the list of hosts: fewer workers, none of which is late"),
      static_cast<double>(left) / workers);
}

// More threads than now where cores are idle: how far computing scales with them only trying tells.
void Writer::AdviseThreads() {
  const int threads = config_.threads(), cores = report_->run().cores_per_worker();
  const bool computes = report_->causes().empty() || report_->causes(0).cause() == "compute-bound";
  if (cores <= threads || !computes || config_.device() == DEVICE_CUDA) return;
  double compute_s = 0;
  for (const ReportPart& part : report_->parts()) {
    if (part.part() == "forward" || part.part() == "backward" || part.part() == "optimizer") compute_s += part.mean_s();
  }
  Add("threads", absl::StrCat(cores), compute_s * (1 - static_cast<double>(threads) / cores),
      absl::StrCat("at most: a worker computes with ", CountText(int64_t{threads}, "thread"), " and has ", cores,
                   " cores; try it for some steps"));
}

// Weak scaling; what travels in a ring grows with 2 (n - 1) / n.
void Writer::AdviseMoreWorkers() {
  if (!report_->causes().empty() || report_->efficiency().parallel() < kMostly) return;
  const auto workers = static_cast<double>(report_->run().workers());
  const auto ring = [](double n) { return (n - 1) / n; };
  const double more_s = workers > 1 ? anatomy_.transfer_s * (ring(workers + 2) / ring(workers) - 1) : 0;
  const int cores = report_->run().cores_per_worker(), threads = config_.threads();
  const bool has_room = cores > 0 && workers * (cores - threads) >= 2 * threads;
  const bool is_full = report_->run().crowded() || (cores > 0 && !has_room);
  Add(is_full ? "" : "--workers", is_full ? "" : absl::StrCat(report_->run().workers() + 2), -more_s,
      absl::StrCat(is_full    ? "2 more workers on another host: the cores of this one are in use"
                   : has_room ? "2 more workers, which have cores of their own here"
                              : "2 more workers, if they have cores of their own",
                   workers > 1 ? "" : ", less what they communicate, which one worker cannot show"),
      (workers + 2) / workers);
}

}  // namespace

void AddWordsAndAdvice(const RunConfig& config, const Anatomy& anatomy, Report* report) {
  Writer(config, anatomy, report).Write();
}

}  // namespace lockstep
