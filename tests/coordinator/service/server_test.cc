// The whole coordinator over loopback gRPC, with a client written by hand.
#include "coordinator/service/server.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "common/checkpoint/checkpoint.h"
#include "coordinator/state/explain.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/run_db.h"
#include "lockstep/control.grpc.pb.h"
#include "tests/coordinator/service/service_testing.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

constexpr char kToken[] = "0123456789abcdef";

// Of every call of a test: longer than anything takes, so that a hang is a failure.
void Prepare(grpc::ClientContext* context, const std::string& token = kToken) {
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  if (!token.empty()) context->AddMetadata("authorization", "Bearer " + token);
}

std::unique_ptr<Coordinator::Stub> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxSendMessageSize(-1);
  return Coordinator::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

// One rank, as its process would speak.
class Worker {
 public:
  Worker(const std::string& address, int rank, int world, int incarnation = 1)
      : stub_(Connect(address)), rank_(rank), incarnation_(incarnation), request_(GoodJoin(rank, world)) {
    request_.set_incarnation(incarnation);
  }
  ~Worker() {
    if (stream_) context_.TryCancel();
  }

  grpc::Status Join(JoinReply* reply) {
    grpc::ClientContext context;
    Prepare(&context);
    return stub_->Join(&context, request_, reply);
  }
  void JoinAndAttend() {
    JoinReply reply;
    const grpc::Status joined = Join(&reply);
    ASSERT_TRUE(joined.ok()) << joined.error_message();
    granted_ = reply.grant().through_step();
    Attend();
    WorkerMessage message;
    message.mutable_heartbeat();
    Send(message);
  }
  void Attend() {
    Prepare(&context_);
    stream_ = stub_->Attend(&context_);
  }
  void Send(WorkerMessage message) {
    message.set_rank(rank_);
    message.set_incarnation(incarnation_);
    ASSERT_TRUE(stream_->Write(message));
  }
  // The next message of that kind; those before it are left out. Default: the stream ended first.
  CoordinatorMessage Await(CoordinatorMessage::KindCase kind) {
    CoordinatorMessage message;
    while (stream_->Read(&message)) {
      if (message.kind_case() == kind) return message;
    }
    ADD_FAILURE() << "the stream ended without a message of kind " << kind;
    return CoordinatorMessage();
  }
  void AskForMore() {
    WorkerMessage message;
    message.mutable_grant_request()->set_through_step(granted_);
    Send(message);
    granted_ = Await(CoordinatorMessage::kGrant).grant().through_step();
  }
  void Evaluate(int64_t step, double accuracy) {
    WorkerMessage message;
    message.mutable_evaluated()->set_step(step);
    (*message.mutable_evaluated()->mutable_metrics())["accuracy"] = accuracy;
    Send(message);
  }
  void Report(int64_t first, int64_t last) {
    WorkerMessage message;
    for (int64_t step = first; step <= last; ++step) *message.mutable_reports()->add_steps() = SmallRecord(step);
    Send(message);
  }
  grpc::Status Leave() {
    WorkerMessage message;
    message.mutable_leaving()->set_why("done");
    Send(message);
    stream_->WritesDone();
    return Finish();
  }
  grpc::Status Finish() {
    CoordinatorMessage message;
    while (stream_->Read(&message)) continue;
    const grpc::Status status = stream_->Finish();
    stream_.reset();
    return status;
  }
  void Break() {
    context_.TryCancel();
    Finish();
  }
  // All of it, and it is committed.
  CheckpointCommitted Upload(int64_t step, const std::string& model) {
    CheckpointCommitted committed;
    const grpc::Status status = TryUpload(step, model, model.size(), &committed);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return committed;
  }
  grpc::Status TryUpload(int64_t step, const std::string& model, int64_t announced, CheckpointCommitted* committed) {
    grpc::ClientContext context;
    Prepare(&context);
    const auto writer = stub_->UploadCheckpoint(&context, committed);
    CheckpointChunk chunk;
    CheckpointChunk::Header* header = chunk.mutable_header();
    header->set_incarnation(incarnation_);
    header->mutable_cursor()->set_step(step);
    header->mutable_cursor()->set_epoch_step(step);
    header->mutable_cursor()->set_evaluated(true);
    Manifest::File* file = header->add_files();
    file->set_name(kModelFile);
    file->set_bytes(announced);
    Manifest::File* optimizer = header->add_files();
    optimizer->set_name(kOptimizerFile);
    optimizer->set_bytes(3);
    writer->Write(chunk);
    chunk.set_data(model.size() == static_cast<size_t>(announced) ? model + "opt" : model);
    writer->Write(chunk);
    writer->WritesDone();
    return writer->Finish();
  }
  int64_t granted() const { return granted_; }
  JoinRequest& request() { return request_; }
  Coordinator::Stub* stub() { return stub_.get(); }

 private:
  const std::unique_ptr<Coordinator::Stub> stub_;
  const int rank_, incarnation_;
  JoinRequest request_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<WorkerMessage, CoordinatorMessage>> stream_;
  int64_t granted_ = 0;
};

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    Credentials credentials;
    credentials.token = kToken;
    options_ = ServiceOptions(folder_.path(), credentials);
    options_.files = &disk_;
  }
  void Start() {
    auto server = CoordinatorServer::Start(options_);
    ASSERT_EQ(server.status(), absl::OkStatus());
    server_ = *std::move(server);
  }
  std::vector<std::unique_ptr<Worker>> StartTraining(int incarnation = 1) {
    Start();
    std::vector<std::unique_ptr<Worker>> workers;
    for (int rank = 0; rank < options_.world; ++rank) {
      workers.push_back(std::make_unique<Worker>(server_->address(), rank, options_.world, incarnation));
      workers.back()->JoinAndAttend();
    }
    return workers;
  }
  bool Ended() { return server_->WaitUntilEnded(absl::Seconds(20)); }
  // Until the status fulfils `condition`, with a deadline.
  bool StatusBecomes(const std::function<bool(const StatusReply&)>& condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition(server_->Status(0))) return true;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return false;
  }
  std::vector<Update> Journaled() {
    std::vector<Update> updates;
    auto journal = OpenJournalReadOnly(JoinPath(folder_.path(), "journal.db"));
    EXPECT_EQ(journal.status(), absl::OkStatus());
    EXPECT_EQ((*journal)->Replay([&](const Update& update) {
      updates.push_back(update);
      return absl::OkStatus();
    }),
              absl::OkStatus());
    return updates;
  }

  TempFolder folder_;
  FullDisk disk_;
  FakeClock clock_;  // of the tests that ask for it; outlives the server, as the options' clock must
  ServerOptions options_;
  std::unique_ptr<CoordinatorServer> server_;
};

// Every method, with its answer to one call.
using Call = std::function<grpc::Status(Coordinator::Stub*, grpc::ClientContext*)>;
const std::vector<std::pair<const char*, Call>>& AllCalls() {
  static const auto* const calls = new std::vector<std::pair<const char*, Call>>{
      {"GetRun",
       [](auto* stub, auto* context) {
         GetRunReply reply;
         return stub->GetRun(context, {}, &reply);
       }},
      {"Join",
       [](auto* stub, auto* context) {
         JoinReply reply;
         return stub->Join(context, GoodJoin(0, 2), &reply);
       }},
      {"Attend",
       [](auto* stub, auto* context) {
         const auto stream = stub->Attend(context);
         CoordinatorMessage message;
         while (stream->Read(&message)) continue;
         return stream->Finish();
       }},
      {"UploadCheckpoint",
       [](auto* stub, auto* context) {
         CheckpointCommitted reply;
         const auto stream = stub->UploadCheckpoint(context, &reply);
         stream->WritesDone();
         return stream->Finish();
       }},
      {"DownloadCheckpoint",
       [](auto* stub, auto* context) {
         const auto stream = stub->DownloadCheckpoint(context, {});
         CheckpointChunk chunk;
         while (stream->Read(&chunk)) continue;
         return stream->Finish();
       }},
      {"GetStatus",
       [](auto* stub, auto* context) {
         StatusReply reply;
         return stub->GetStatus(context, {}, &reply);
       }},
      {"RequestStop",
       [](auto* stub, auto* context) {
         RequestReply reply;
         return stub->RequestStop(context, {}, &reply);
       }},
      {"RequestCheckpoint",
       [](auto* stub, auto* context) {
         RequestReply reply;
         return stub->RequestCheckpoint(context, {}, &reply);
       }},
  };
  return *calls;
}

TEST_F(ServerTest, EveryCallNeedsTheToken) {
  Start();
  EXPECT_EQ(AllCalls().size(), static_cast<size_t>(Coordinator::service_full_name() != nullptr ? 8 : 0));
  const auto stub = Connect(server_->address());
  for (const auto& [name, call] : AllCalls()) {
    SCOPED_TRACE(name);
    grpc::ClientContext without;
    Prepare(&without, "");
    const grpc::Status missing = call(stub.get(), &without);
    EXPECT_EQ(missing.error_code(), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(missing.error_message(), "the call carries no token: start it by lockstep run, or set the run's token");
    for (const std::string wrong : {"0123456789abcdeF", "0123456789abcde", "0123456789abcdef0", "x"}) {
      grpc::ClientContext context;
      Prepare(&context, wrong);
      const grpc::Status status = call(stub.get(), &context);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
      EXPECT_EQ(status.error_message(), "the call does not carry this run's token");
    }
    grpc::ClientContext twice;
    Prepare(&twice);
    twice.AddMetadata("authorization", std::string("Bearer ") + kToken);
    EXPECT_EQ(call(stub.get(), &twice).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
  EXPECT_EQ(server_->Status(0).phase(), "starting") << "a stop without a token was obeyed";
}

TEST_F(ServerTest, AServerWithoutATokenIsNotStarted) {
  options_.credentials.token = "";
  EXPECT_EQ(CoordinatorServer::Start(options_).status(), absl::InvalidArgumentError("a coordinator needs a token"));
}

TEST_F(ServerTest, AMessageThatIsTooLargeIsRefused) {
  auto workers = StartTraining();
  JoinReply reply;
  Worker large(server_->address(), 1, 2);
  large.request().set_host(std::string(5 << 20, 'x'));
  EXPECT_EQ(large.Join(&reply).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  WorkerMessage message;
  message.mutable_leaving()->set_why(std::string(5 << 20, 'x'));
  workers[1]->Send(message);
  EXPECT_EQ(workers[1]->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(workers[0]->Await(CoordinatorMessage::kAbort).abort().reason(), HasSubstr("rank 1 on node1"));
}

TEST_F(ServerTest, AJoinThatDoesNotFitIsRefusedOverTheWire) {
  Start();
  JoinReply reply;
  Worker other(server_->address(), 0, 2);
  other.request().set_config_digest("other");
  const grpc::Status status = other.Join(&reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(),
            "this worker's config has digest other, the run's has digest: start both from the same config");
  Worker beyond(server_->address(), 2, 2);
  EXPECT_EQ(beyond.Join(&reply).error_code(), grpc::StatusCode::OUT_OF_RANGE);
  Worker good(server_->address(), 0, 2);
  EXPECT_TRUE(good.Join(&reply).ok());
  EXPECT_EQ(good.Join(&reply).error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(ServerTest, AStreamOfAnotherIncarnationIsRefused) {
  Start();
  Worker worker(server_->address(), 0, 2);
  JoinReply reply;
  ASSERT_TRUE(worker.Join(&reply).ok());
  Worker old(server_->address(), 0, 2, /*incarnation=*/0);
  old.Attend();
  WorkerMessage message;
  message.mutable_heartbeat();
  old.Send(message);
  const grpc::Status status = old.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(), "a message of incarnation 0, the run is in incarnation 1");
}

TEST_F(ServerTest, ARunFromJoinToItsEnd) {
  auto workers = StartTraining();
  grpc::ClientContext context;
  Prepare(&context);
  GetRunReply run;
  ASSERT_TRUE(workers[0]->stub()->GetRun(&context, {}, &run).ok());
  EXPECT_EQ(run.world(), 2);
  EXPECT_FALSE(run.has_resume());
  workers[0]->Upload(0, "weights");
  for (auto& worker : workers) {
    while (worker->granted() < 20) worker->AskForMore();
  }
  for (const int64_t step : {10, 20}) {
    for (auto& worker : workers) worker->Report(step - 9, step);
    workers[0]->Evaluate(step, step / 100.0);
    const Verdict verdict = workers[0]->Await(CoordinatorMessage::kVerdict).verdict();
    EXPECT_EQ(verdict.step(), step);
    EXPECT_EQ(verdict.stop(), step == 20);
    EXPECT_TRUE(workers[0]->Upload(step, "weights").best());
  }
  for (auto& worker : workers) EXPECT_TRUE(worker->Leave().ok());
  ASSERT_TRUE(Ended());
  EXPECT_EQ(server_->ended().exit_code(), 0);
  auto reader = OpenRunDbReader(JoinPath(folder_.path(), "run.db"));
  ASSERT_EQ(reader.status(), absl::OkStatus());
  const auto figures = (*reader)->Figures();
  ASSERT_EQ(figures.status(), absl::OkStatus());
  EXPECT_EQ(figures->steps, 20) << "ended, and not everything was flushed";
  EXPECT_EQ(figures->evaluations.size(), 2u);
  EXPECT_EQ(figures->decisions.size(), 4u) << "start, best, best, max_epochs";
  server_.reset();
  EXPECT_TRUE(UnexplainedDecisions(Journaled())->empty());
  EXPECT_EQ(*FileSystem::Real()->Read(folder_.path() + "/checkpoints/best/model.safetensors"), "weights");
  EXPECT_FALSE(FileSystem::Real()->List(folder_.path() + "/events")->empty());
}

TEST_F(ServerTest, AWorkersDeathAbortsTheOthersAndTheRunEndsWith1) {
  auto workers = StartTraining();
  workers[1]->AskForMore();  // answered: it attends
  workers[1]->Break();
  EXPECT_THAT(workers[0]->Await(CoordinatorMessage::kAbort).abort().reason(),
              HasSubstr("rank 1 on node1 (pid 101) was lost: its connection broke after step 0"));
  EXPECT_TRUE(workers[0]->Leave().ok());
  ASSERT_TRUE(Ended());
  EXPECT_EQ(server_->ended().exit_code(), 1);
}

TEST_F(ServerTest, ASilentWorkerIsLostByTheClock) {
  options_.clock = &clock_;
  auto workers = StartTraining();
  WorkerMessage beat;
  beat.mutable_heartbeat();
  // The clock goes on in small steps, so that the server ticks in between; rank 0 keeps talking.
  EXPECT_TRUE(StatusBecomes([&](const StatusReply& status) {
    clock_.Advance(absl::Milliseconds(50));
    if (!status.has_stop()) workers[0]->Send(beat);
    return status.has_stop();
  }));
  EXPECT_THAT(server_->Status(0).stop().reason(), HasSubstr("rank 1 on node1 (pid 101) was lost: nothing was heard"));
}

TEST_F(ServerTest, AStopIsAskedForOverTheWire) {
  auto workers = StartTraining();
  grpc::ClientContext context;
  Prepare(&context);
  StopRequested request;
  request.set_by("lockstep stop");
  RequestReply reply;
  ASSERT_TRUE(workers[0]->stub()->RequestStop(&context, request, &reply).ok());
  EXPECT_EQ(reply.said(), "stopping after a checkpoint");
  for (auto& worker : workers) {
    EXPECT_EQ(worker->Await(CoordinatorMessage::kDirective).directive().stop().rule(), "request");
  }
  workers[0]->Upload(3, "weights");
  for (auto& worker : workers) EXPECT_TRUE(worker->Leave().ok());
  ASSERT_TRUE(Ended());
  EXPECT_EQ(server_->ended().exit_code(), 0);
}

TEST_F(ServerTest, ASignalsStopExits3) {
  auto workers = StartTraining();
  workers[0]->Upload(0, "weights");
  server_->AskToStop("SIGTERM to lockstep run", true);
  for (auto& worker : workers) {
    worker->Await(CoordinatorMessage::kDirective);
    EXPECT_TRUE(worker->Leave().ok());
  }
  ASSERT_TRUE(Ended());
  EXPECT_EQ(server_->ended().exit_code(), 3);
}

TEST_F(ServerTest, ABrokenUploadIsAnsweredAndLeavesNothing) {
  auto workers = StartTraining();
  CheckpointCommitted committed;
  const grpc::Status status = workers[0]->TryUpload(0, "weig", 7, &committed);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(status.error_message(), "model.safetensors: 4 of 7 bytes arrived");
  EXPECT_TRUE(FileSystem::Real()->List(folder_.path() + "/checkpoints")->empty());
  workers[0]->Upload(0, "weights");
}

TEST_F(ServerTest, AFullDiskIsAWarningOverTheWire) {
  auto workers = StartTraining();
  disk_.full = true;
  CheckpointCommitted committed;
  const grpc::Status status = workers[0]->TryUpload(0, "weights", 7, &committed);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("No space left on device"));
  disk_.full = false;
  EXPECT_FALSE(server_->Status(0).has_stop());
  workers[0]->Upload(0, "weights");
}

TEST_F(ServerTest, ASecondServerOnTheFolderIsRefused) {
  Start();
  options_.resume = true;
  EXPECT_EQ(CoordinatorServer::Start(options_).status(),
            absl::FailedPreconditionError(folder_.path() + ": another coordinator is at work in this folder; stop it "
                                                           "first, or choose another --out"));
  server_.reset();
  Start();
}

TEST_F(ServerTest, AFreshRunDoesNotTakeAFolderThatHoldsOne) {
  Start();
  server_.reset();
  EXPECT_EQ(CoordinatorServer::Start(options_).status(),
            absl::FailedPreconditionError(folder_.path() + " holds a run already: go on with it by --resume, or choose "
                                                           "another --out"));
}

TEST_F(ServerTest, AnAddressThatCannotBeHadIsAnError) {
  Start();
  TempFolder other;
  ServerOptions options = options_;
  options.run_folder = other.path();
  options.listen = server_->address();
  EXPECT_THAT(std::string(CoordinatorServer::Start(options).status().message()),
              HasSubstr("cannot listen on " + server_->address()));
  options.listen = "127.0.0.1:0";
  EXPECT_TRUE(CoordinatorServer::Start(options).ok()) << "the failed start used the folder up";
}

TEST_F(ServerTest, AResumeGoesOnFromTheLastCheckpoint) {
  {
    auto workers = StartTraining();
    workers[0]->Upload(0, "first");
    workers[0]->AskForMore();
    workers[0]->Evaluate(10, 0.5);
    workers[0]->Await(CoordinatorMessage::kVerdict);
    workers[0]->Upload(10, "second");
    server_.reset();  // as after a kill: no end is journaled
  }
  options_.resume = true;
  Start();
  const auto stub = Connect(server_->address());
  grpc::ClientContext run_context;
  Prepare(&run_context);
  GetRunReply run;
  ASSERT_TRUE(stub->GetRun(&run_context, {}, &run).ok());
  EXPECT_EQ(run.incarnation(), 2);
  EXPECT_EQ(run.resume().cursor().step(), 10);
  EXPECT_EQ(run.resume().evaluations_size(), 1);
  grpc::ClientContext context;
  Prepare(&context);
  DownloadRequest request;
  request.set_incarnation(2);
  const auto download = stub->DownloadCheckpoint(&context, request);
  CheckpointChunk chunk;
  ASSERT_TRUE(download->Read(&chunk));
  EXPECT_EQ(chunk.header().cursor().step(), 10);
  ASSERT_TRUE(download->Read(&chunk));
  EXPECT_EQ(chunk.data(), "second");
  ASSERT_TRUE(download->Read(&chunk));
  EXPECT_EQ(chunk.data(), "opt");
  EXPECT_FALSE(download->Read(&chunk));
  EXPECT_TRUE(download->Finish().ok());
  Worker old(server_->address(), 0, 2, 1);
  JoinReply reply;
  EXPECT_EQ(old.Join(&reply).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  Worker anew(server_->address(), 0, 2, 2);
  ASSERT_TRUE(anew.Join(&reply).ok());
  EXPECT_EQ(reply.grant().first_step(), 11);
}

TEST_F(ServerTest, AResumePassesOverACheckpointThatDoesNotVerify) {
  {
    auto workers = StartTraining();
    workers[0]->Upload(0, "first");
    workers[0]->AskForMore();
    workers[0]->Upload(10, "second");
    server_.reset();
  }
  ASSERT_EQ(WriteFileAtomically(FileSystem::Real(), folder_.path() + "/checkpoints/step-00000010/model.safetensors",
                                "seconX"),
            absl::OkStatus());
  options_.resume = true;
  Start();
  EXPECT_EQ(server_->Status(0).last_checkpoint(), 0);
  EXPECT_EQ(*FileSystem::Real()->Read(folder_.path() + "/checkpoints/latest/model.safetensors"), "first");
}

TEST_F(ServerTest, AResumeWithOtherDataOrConfigIsRefused) {
  {
    auto workers = StartTraining();
    workers[0]->Upload(0, "first");
    server_.reset();
  }
  options_.resume = true;
  options_.train_samples = 99;
  EXPECT_THAT(std::string(CoordinatorServer::Start(options_).status().message()),
              HasSubstr("was trained on 100 samples"));
  options_.train_samples = 100;
  options_.data_digest = "other";
  EXPECT_THAT(std::string(CoordinatorServer::Start(options_).status().message()),
              HasSubstr("was trained on other samples (digest data) than"));
  options_.data_digest = "data";
  options_.config_digest = "other";
  EXPECT_THAT(std::string(CoordinatorServer::Start(options_).status().message()), HasSubstr("config of digest digest"));
}

TEST_F(ServerTest, AResumeBeforeTheFirstCheckpointStartsAfresh) {
  Start();
  server_.reset();
  options_.resume = true;
  Start();
  const auto stub = Connect(server_->address());
  grpc::ClientContext context;
  Prepare(&context);
  GetRunReply run;
  ASSERT_TRUE(stub->GetRun(&context, {}, &run).ok());
  EXPECT_EQ(run.incarnation(), 2);
  EXPECT_FALSE(run.has_resume());
}

TEST_F(ServerTest, AServerGoesWhileStreamsAreOpen) {
  auto workers = StartTraining();
  const absl::Time start = absl::Now();
  server_.reset();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  EXPECT_FALSE(workers[0]->Finish().ok());
}

}  // namespace
}  // namespace lockstep
