#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace lockstep {

// Exit codes of every command.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitBadUsage = 2;
inline constexpr int kExitStopped = 3;  // by a signal, after a checkpoint

// What main calls once the arguments were read. Each Add… puts its subcommand into `app` and sets `action` when that
// one was asked for.
using Action = std::function<int()>;
void AddRun(CLI::App* app, Action* action);
void AddServe(CLI::App* app, Action* action);
void AddStatus(CLI::App* app, Action* action);
void AddWatch(CLI::App* app, Action* action);
void AddStop(CLI::App* app, Action* action);
void AddCheckpoint(CLI::App* app, Action* action);
void AddRuns(CLI::App* app, Action* action);
void AddEvaluate(CLI::App* app, Action* action);
void AddPredict(CLI::App* app, Action* action);
void AddCompare(CLI::App* app, Action* action);
void AddTrace(CLI::App* app, Action* action);
void AddReport(CLI::App* app, Action* action);
void AddVerify(CLI::App* app, Action* action);
void AddDataset(CLI::App* app, Action* action);
void AddBench(CLI::App* app, Action* action);
void AddDoctor(CLI::App* app, Action* action);
void AddLab(CLI::App* app, Action* action);

// Prints "lockstep: <message>" on standard error and returns 2 for what the caller can mend (bad usage, config, input),
// 1 for the rest. OK: prints nothing and returns 0.
int Fail(const absl::Status& status);
int ExitCodeOf(const absl::Status& status);

// The nearest of `known` to a word that is none of them; empty: nothing is near.
std::string NearestWord(const std::string& word, const std::vector<std::string>& known);
// "; did you mean 'x'?", or nothing.
std::string DidYouMean(const std::string& word, const std::vector<std::string>& known);

// Finds what is no command and no option of `app`, before CLI11 does: the message says which, and what may have been
// meant. OK: nothing wrong so far.
absl::Status CheckWords(const CLI::App& app, const std::vector<std::string>& arguments);

// "lockstep dataset make", of the arguments "dataset make …".
std::string CommandOf(const CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace lockstep
