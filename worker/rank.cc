#include "worker/rank.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/build_info.h"
#include "common/base/cores.h"
#include "common/base/host_folder.h"
#include "common/base/memory.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "common/credentials/credentials.h"
#include "common/data/dataset.h"
#include "worker/comm/mpi.h"
#include "worker/comm/named_ranks.h"
#include "worker/communication.h"
#include "worker/coordinator_client/client.h"
#include "worker/model/device.h"
#include "worker/model/libraries.h"
#include "worker/model/model.h"
#include "worker/model/objective.h"
#include "worker/train/communication_cache.h"
#include "worker/train/trainer.h"
#include "worker/train/watchdog.h"

namespace lockstep {
namespace {

constexpr int kFailed = 1, kUsage = 2;
constexpr absl::Duration kLeaveTimeout = absl::Seconds(10);
// After a failure nobody waits long: the coordinator may be what cannot be reached any more.
constexpr absl::Duration kFailedLeaveTimeout = absl::Seconds(2);
// For the rank that knows best what went wrong to tell the coordinator, and for that to tell the others.
constexpr absl::Duration kAbortTimeout = absl::Seconds(2);

std::string HostName() {
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  return name;
}

// Who speaks, for every line on standard error.
class Voice {
 public:
  void set_rank(int rank) { rank_ = rank; }
  void Say(const std::string& what) const {
    const std::string who = rank_ < 0 ? host_ : absl::StrCat("rank ", rank_.load(), " on ", host_);
    std::fputs(absl::StrCat("lockstep-worker: ", who, ": ", what, "\n").c_str(), stderr);
  }
  const std::string& host() const { return host_; }

 private:
  const std::string host_ = HostName();
  std::atomic<int> rank_{-1};
};

// OpenBLAS has threads of its own, which LibTorch does not tell how many there may be.
void LimitThreads(int threads) {
  torch::set_num_threads(threads);
  using SetThreads = void (*)(int);
  if (auto set = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))) set(threads);
}

absl::StatusOr<std::string> DeviceOf(const RunConfig& config, const std::shared_future<int>& rank) {
  const int gpus = config.device() == DEVICE_CPU ? 0 : CountGpus();
  if (gpus == 0) return ChooseDevice(config.device(), 0, gpus);
  // Else cuDNN may add up in another order every time, and a run that is resumed would not repeat bitwise.
  at::globalContext().setDeterministicCuDNN(true);
  return ChooseDevice(config.device(), PlaceOnHost(rank.get()), gpus);
}

// What takes time and needs neither MPI nor the other ranks; made while MPI is being initialised.
struct Material {
  std::string device;
  std::unique_ptr<Network> network;
  std::unique_ptr<Objective> objective;
  std::unique_ptr<Dataset> train, validation;
};

// What the coordinator granted are samples of its data.
absl::Status CheckData(const Material& material, const std::string& path, const std::string& digest) {
  const std::string own = DataDigest(*material.train, *material.validation);
  if (own == digest) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": holds other data on this host (digest ", own,
                                                 ") than where the coordinator runs (", digest,
                                                 "): give every host the same files"));
}

absl::StatusOr<Material> MakeMaterial(const GetRunReply& run, const std::shared_future<int>& rank) {
  const RunConfig& config = run.config();
  LimitThreads(config.threads());
  Material material;
  ASSIGN_OR_RETURN(material.device, DeviceOf(config, rank));
  ASSIGN_OR_RETURN(material.train, OpenDataset(config.data(), Split::kTrain));
  ASSIGN_OR_RETURN(material.validation, OpenDataset(config.data(), Split::kValidation));
  RETURN_IF_ERROR(CheckData(material, config.data().path(), run.data_digest()));
  ASSIGN_OR_RETURN(material.network, CreateModel(config, material.device));
  ASSIGN_OR_RETURN(material.objective, CreateObjective(config.loss(), material.device));
  return material;
}

// One rank's life, from its first word to the coordinator to its last. Its process ends with it.
class Worker {
 public:
  Worker(ClientOptions client, Voice* voice)
      : client_(std::move(client)), voice_(voice), watchdog_([voice](const std::string& what) { voice->Say(what); }) {}

  [[noreturn]] void Run(int* argc, char*** argv) {
    absl::Status ready;
    try {
      ready = Prepare(argc, argv);
    } catch (const std::exception& error) {
      ready = absl::InternalError(error.what());
    }
    TrainingEnd end;
    end.status = ready;
    end.tell = true;
    if (ready.ok()) end = trainer_->Run();
    if (!end.status.ok()) Fail(end);
    Leave(end.step, end.why, kLeaveTimeout);
    watchdog_.Unwatch();
    trainer_.reset();
    communication_ = CommunicationSetup();
    session_.reset();  // MPI_Finalize
    Exit(0);
  }

 private:
  absl::Status Prepare(int* argc, char*** argv) {
    std::shared_future<int> rank = rank_.get_future().share();
    run_ = std::async(std::launch::async, [this] { return GetRun(client_); }).share();
    material_ = std::async(std::launch::async, [this, rank]() -> absl::StatusOr<Material> {
      if (!run_.get().ok()) return run_.get().status();
      return MakeMaterial(*run_.get(), rank);
    });
    ASSIGN_OR_RETURN(session_, MpiSession::Create(argc, argv));
    rank_.set_value(session_->rank());
    voice_->set_rank(session_->rank());
    if (!run_.get().ok()) return run_.get().status();
    RETURN_IF_ERROR(JoinRun());
    ASSIGN_OR_RETURN(Material material, material_.get());
    return MakeTrainer(std::move(material));
  }

  absl::Status JoinRun() {
    const GetRunReply& run = *run_.get();
    JoinRequest request;
    request.set_rank(session_->rank());
    request.set_world(session_->world());
    request.set_incarnation(run.incarnation());
    request.set_config_digest(ConfigDigest(run.config()));
    request.set_build(BuildVersion());
    request.set_host(voice_->host());
    request.set_pid(getpid());
    request.set_cores(UsableCores());
    request.set_compute(
        absl::StrCat("LibTorch ", LoadedTorch(), ", BLAS ", LoadedBlas(), ", ", session_->library_version()));
    request.set_warning(BlasWarning().value_or(""));
    ASSIGN_OR_RETURN(link_, Join(client_, request));
    watchdog_.Watch(link_.get(), session_->rank());
    return absl::OkStatus();
  }

  absl::Status MakeTrainer(Material material) {
    const GetRunReply& run = *run_.get();
    TrainerOptions options;
    if (run.config().device() != DEVICE_CPU) voice_->Say(absl::StrCat("trains on ", material.device));
    options.config = run.config();
    options.rank = session_->rank();
    options.world = session_->world();
    options.incarnation = run.incarnation();
    if (run.has_resume()) options.resume = run.resume();
    if (options.world > 1) {
      WindowOptions window;
      RETURN_IF_ERROR(Trainer::SizeWindow(run.config(), *material.network, &window));
      ASSIGN_OR_RETURN(communication_, SetUpCommunication(session_.get(), run, window, CommunicationCacheFolder(),
                                                          [this](const std::string& what) { voice_->Say(what); }));
    }
    if (run.has_communication()) {
      options.gradient_order.emplace(run.communication().gradient_order().begin(),
                                     run.communication().gradient_order().end());
    }
    options.collectives = communication_.collectives.get();
    options.window = communication_.share.window.get();
    options.host = communication_.share.collectives.get();
    options.hosts = communication_.hosts;
    options.link = link_.get();
    options.device = material.device;
    options.network = std::move(material.network);
    options.objective = std::move(material.objective);
    options.train = std::move(material.train);
    options.validation = std::move(material.validation);
    options.log = [this](const std::string& what) { voice_->Say(what); };
    ASSIGN_OR_RETURN(trainer_, Trainer::Create(std::move(options)));
    if (session_->rank() != 0 || session_->world() == 1) return absl::OkStatus();
    for (const int parameter : trainer_->gradient_order()) communication_.chosen.add_gradient_order(parameter);
    link_->SendCommunication(communication_.chosen);
    return absl::OkStatus();
  }

  // Says why on standard error and, if `tell`, to the coordinator. Collectives may be under way, so nothing is
  // destroyed.
  [[noreturn]] void Fail(const TrainingEnd& end) {
    const std::string what(end.status.message());
    voice_->Say(what);
    if (link_ != nullptr) {
      if (end.tell && link_->Alive().ok()) {
        Failed failed;
        failed.set_step(end.step);
        failed.set_rank(session_->rank());
        failed.set_what(what);
        failed.set_non_finite(end.non_finite);
        failed.set_bad_input(end.step == StartStep() &&
                             (absl::IsInvalidArgument(end.status) || absl::IsNotFound(end.status)));
        for (const int rank : NamedRanks(end.status)) failed.add_about(rank);
        link_->SendFailed(failed);
      } else {
        // Whoever leaves before the coordinator has heard why looks like the one that was lost.
        link_->WaitForAbort(kAbortTimeout);
      }
      Leave(end.step, what, kFailedLeaveTimeout);
    }
    Exit(kFailed);
  }

  // The step after which this process began.
  int64_t StartStep() const {
    return trainer_ != nullptr && run_.get()->has_resume() ? run_.get()->resume().cursor().step() : 0;
  }

  void Leave(int64_t step, const std::string& why, absl::Duration timeout) {
    Leaving leaving;
    leaving.set_step(step);
    leaving.set_why(why);
    link_->Leave(leaving, timeout);
  }

  [[noreturn]] static void Exit(int code) {
    std::fflush(nullptr);
    _exit(code);
  }

  const ClientOptions client_;
  Voice* const voice_;
  Watchdog watchdog_;
  std::promise<int> rank_;
  std::shared_future<absl::StatusOr<GetRunReply>> run_;
  std::future<absl::StatusOr<Material>> material_;
  std::unique_ptr<MpiSession> session_;
  CommunicationSetup communication_;
  std::unique_ptr<CoordinatorLink> link_;
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace

void RunRank(const std::string& coordinator, int* argc, char*** argv) {
  KeepFreedMemory();
  HoldHostFolder();
  torch::set_num_interop_threads(1);
  CatchStopSignals();
  Voice voice;
  ClientOptions client;
  client.address = coordinator;
  absl::StatusOr<Credentials> credentials = CredentialsFromEnvironment();
  if (!credentials.ok()) {
    voice.Say(std::string(credentials.status().message()));
    std::exit(kUsage);
  }
  client.credentials = *std::move(credentials);
  Worker worker(std::move(client), &voice);
  worker.Run(argc, argv);
}

}  // namespace lockstep
