#include "coordinator/observe/progress.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/observe/proto_json.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

constexpr int kMinBar = 10, kMaxBar = 40;
constexpr int kMaxWorkersShown = 64;

int EpochNumber(const StatusReply& status) {
  const int number = status.epoch() + 1;
  return status.epochs() > 0 ? std::min(number, status.epochs()) : number;
}

double EpochFraction(const StatusReply& status) {
  if (status.steps_per_epoch() <= 0) return 0;
  return std::clamp(static_cast<double>(status.epoch_step()) / static_cast<double>(status.steps_per_epoch()), 0.0, 1.0);
}

std::string Bar(double fraction, int columns) {
  const int inside = columns - 2;
  const int full = std::clamp(static_cast<int>(fraction * inside), 0, inside);
  std::string bar(inside, ' ');
  std::fill_n(bar.begin(), full, '=');
  if (full < inside && full > 0) bar[full - 1] = '>';
  return absl::StrCat("[", bar, "]");
}

int64_t JoinedOf(const StatusReply& status) {
  return std::count_if(status.workers().begin(), status.workers().end(), [](const auto& w) { return w.joined(); });
}

// "training"; "starting: 1 of 2 workers are there".
std::string PhaseText(const StatusReply& status) {
  if (status.phase() != "starting" || status.workers().empty()) return status.phase();
  return absl::StrFormat("starting: %d of %s", JoinedOf(status),
                         CountText(static_cast<int64_t>(status.workers_size()), "worker"));
}

// "validation accuracy 0.9735, loss 0.0850".
std::string MetricsText(const EvaluationResult& evaluation) {
  const std::map<std::string, double> sorted(evaluation.metrics().begin(), evaluation.metrics().end());
  std::vector<std::string> parts;
  for (const auto& [metric, value] : sorted) parts.push_back(absl::StrCat(metric, " ", FigureText(value)));
  return absl::StrCat(evaluation.split(), evaluation.split().empty() ? "" : " ", absl::StrJoin(parts, ", "));
}

std::string BestText(const StatusReply& status) {
  if (status.best_step() < 0) return "none yet";
  return absl::StrCat(status.metric().empty() ? "" : status.metric() + " ", FigureText(status.best_value()),
                      " at step ", CountText(static_cast<double>(status.best_step())));
}

std::string StepText(int64_t step) { return absl::StrCat("step ", CountText(static_cast<double>(step))); }

// "at step 1,233 (patience): …"
std::string WhenAndWhy(const Decision& decision) {
  const std::string rule = decision.rule().empty() ? "" : absl::StrCat(" (", decision.rule(), ")");
  return absl::StrCat("at ", StepText(decision.step()), rule, ": ", decision.reason());
}

std::string CheckpointText(const CheckpointCommitted& checkpoint) {
  return absl::StrCat("checkpoint of ", StepText(checkpoint.step()), ": ", checkpoint.path(), ", ",
                      BytesText(checkpoint.bytes()), " in ",
                      DurationText(checkpoint.snapshot_s() + checkpoint.write_s()),
                      checkpoint.best() ? ", the best so far" : "");
}

// A piece of the bar's line; the less it says, the earlier it goes.
struct Piece {
  std::string text;
  int keep;
};

int LineWidth(const std::vector<Piece>& pieces) {
  int width = 0;
  for (const Piece& piece : pieces) width += (width > 0 ? 2 : 0) + WidthOf(piece.text);
  return width;
}

void DropLeast(std::vector<Piece>* pieces) {
  pieces->erase(
      std::min_element(pieces->begin(), pieces->end(), [](const Piece& a, const Piece& b) { return a.keep < b.keep; }));
}

std::vector<Piece> PiecesOf(const StatusReply& status) {
  const bool training = status.phase() == "training";
  std::vector<Piece> pieces;
  const std::string of = status.epochs() > 0 ? absl::StrCat("/", status.epochs()) : "";
  pieces.push_back({absl::StrCat("epoch ", EpochNumber(status), of), 9});
  if (!training && !status.phase().empty()) pieces.push_back({PhaseText(status), 10});
  if (status.step() > 0) {
    pieces.push_back({StepText(status.step()), 7});
    pieces.push_back({absl::StrCat("loss ", FigureText(status.loss())), 6});
    pieces.push_back({absl::StrCat(CountText(status.samples_per_s()), " samples/s"), 4});
  }
  if (training) pieces.push_back({absl::StrCat("ETA ", ClockText(status.eta_epoch_s())), 5});
  if (status.step() > 0) pieces.push_back({absl::StrCat("exposed ", PercentText(status.exposed_fraction())), 3});
  return pieces;
}

// Of the workers, those to show: all, or the ones that most need a look.
std::vector<WorkerStatus> WorkersToShow(const StatusReply& status) {
  std::vector<WorkerStatus> workers(status.workers().begin(), status.workers().end());
  const auto worse = [](const WorkerStatus& a, const WorkerStatus& b) {
    const auto badness = [](const WorkerStatus& w) {
      return std::make_tuple(w.left().empty(), w.joined(), w.step(), -w.silent_s());
    };
    return badness(a) < badness(b);
  };
  if (workers.size() > kMaxWorkersShown) {
    std::stable_sort(workers.begin(), workers.end(), worse);
    workers.resize(kMaxWorkersShown);
  }
  std::sort(workers.begin(), workers.end(), [](const auto& a, const auto& b) { return a.rank() < b.rank(); });
  return workers;
}

std::string WorkersText(const StatusReply& status) {
  int64_t furthest = 0;
  for (const WorkerStatus& worker : status.workers()) furthest = std::max(furthest, worker.step());
  TextTable table({"rank", "host", "pid", "step", "behind", "silent", ""},
                  {false, true, false, false, false, false, true});
  for (const WorkerStatus& worker : WorkersToShow(status)) {
    const bool here = worker.joined() && worker.left().empty();
    const std::string note = !worker.left().empty() ? absl::StrCat("left: ", worker.left())
                             : here                 ? ""
                                                    : "not there yet";
    table.Add({absl::StrCat(worker.rank()), Cut(worker.host(), 30), worker.pid() > 0 ? absl::StrCat(worker.pid()) : "",
               CountText(static_cast<double>(worker.step())), here ? CountText(furthest - worker.step(), "step") : "",
               here ? DurationText(worker.silent_s()) : "", Cut(note, 40)});
  }
  std::string text = table.Text("");
  if (status.workers_size() > kMaxWorkersShown) {
    const int64_t more = status.workers_size() - kMaxWorkersShown;
    absl::StrAppend(&text, "… and ", CountText(more, "worker"), " further ahead\n");
  }
  return text;
}

std::string PlaceText(const StatusReply& status) {
  std::string text = absl::StrCat(StepText(status.step()));
  if (status.final_step() > 0) {
    const double done = static_cast<double>(status.step()) / static_cast<double>(status.final_step());
    absl::StrAppend(&text, " of ", CountText(static_cast<double>(status.final_step())), " (", PercentText(done), ")");
  }
  absl::StrAppend(&text, ", epoch ", EpochNumber(status),
                  status.epochs() > 0 ? absl::StrCat(" of ", status.epochs()) : "", " (",
                  PercentText(EpochFraction(status)), ")");
  if (status.phase() == "ended") return text;
  const bool known = status.eta_epoch_s() >= 0;
  return absl::StrCat(text, ", its end ", known ? "in " + DurationText(status.eta_epoch_s()) : "not known yet");
}

std::string SpeedText(const StatusReply& status) {
  return absl::StrFormat("%s samples/s, %.2f ms a step, %s of it exposed communication",
                         CountText(status.samples_per_s()), 1e3 * status.step_s(),
                         PercentText(status.exposed_fraction()));
}

std::string PhaseLine(const StatusReply& status) {
  std::string text = absl::StrCat(PhaseText(status), ", for ", DurationText(status.elapsed_s()));
  if (status.phase() == "ended") absl::StrAppend(&text, ", exit code ", status.exit_code());
  if (status.incarnation() > 1) absl::StrAppend(&text, ", incarnation ", status.incarnation());
  return text;
}

}  // namespace

std::string ProgressBar(const StatusReply& status, int columns) {
  if (columns <= 0) return "";
  std::vector<Piece> pieces = PiecesOf(status);
  const auto left_over = [&] { return columns - LineWidth(pieces) - 2; };
  // Without room for the bar and the epoch's number the line is text alone.
  while (pieces.size() > 1 && left_over() < kMinBar) DropLeast(&pieces);
  std::vector<std::string> texts;
  for (const Piece& piece : pieces) texts.push_back(piece.text);
  if (left_over() >= kMinBar)
    texts.insert(texts.begin() + 1, Bar(EpochFraction(status), std::min(left_over(), kMaxBar)));
  return Cut(absl::StrJoin(texts, "  "), columns);
}

std::string EpochText(const EpochLine& epoch) {
  std::string text =
      absl::StrCat("epoch ", epoch.epoch() + 1, "  ", StepText(epoch.step()), "  loss ", FigureText(epoch.loss()));
  if (epoch.has_evaluation()) absl::StrAppend(&text, "  ", MetricsText(epoch.evaluation()));
  absl::StrAppend(&text, "  ", DurationText(epoch.seconds()), "  ", CountText(epoch.samples_per_s()), " samples/s",
                  "  exposed ", PercentText(epoch.exposed_fraction()));
  return text;
}

std::string EventText(const Event& event) {
  switch (event.kind_case()) {
    case Event::kEpoch:
      return EpochText(event.epoch());
    case Event::kDecision:
      return OneLine(absl::StrCat(event.decision().kind(), " ", WhenAndWhy(event.decision())));
    case Event::kCheckpoint:
      return OneLine(CheckpointText(event.checkpoint()));
    case Event::kNote:
      return OneLine(event.note());
    case Event::KIND_NOT_SET:
      break;
  }
  return "";
}

std::string StatusText(const StatusReply& status) {
  std::string text = Field("run", absl::StrCat(status.name(), ", in ", status.folder()));
  text += Field("phase", PhaseLine(status));
  text += Field("progress", PlaceText(status));
  if (status.step() > 0) {
    text += Field("loss", absl::StrCat(FigureText(status.loss()), ", mean of the last steps"));
    text += Field("speed", SpeedText(status));
  }
  if (status.has_last_evaluation()) {
    text += Field("evaluation", absl::StrCat(MetricsText(status.last_evaluation()), " at ",
                                             StepText(status.last_evaluation().step())));
  }
  text += Field("best", BestText(status));
  text += Field("checkpoint",
                status.last_checkpoint() < 0 ? "none yet" : "the last of " + StepText(status.last_checkpoint()));
  if (status.has_stop()) text += Field("stop", WhenAndWhy(status.stop()));
  if (status.workers_size() > 0) absl::StrAppend(&text, "\n", WorkersText(status));
  return text;
}

std::string StatusJson(const StatusReply& status) { return JsonText(ToJson(status)); }

}  // namespace lockstep
