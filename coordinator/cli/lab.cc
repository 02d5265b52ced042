#include "coordinator/launch/lab.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <memory>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/observe/text.h"
#include "coordinator/supervise/mpirun.h"

namespace lockstep {
namespace {

struct UpArguments {
  int hosts = 0;
  std::string rate, delay;
  std::vector<std::string> per_host;
};

// "2:rate=100mbit,delay=5ms"
absl::Status ReadPerHost(const std::string& text, Lab::Plan* plan) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  int host = 0;
  if (parts.size() == 2 && absl::SimpleAtoi(parts[0], &host)) {
    Lab::Link& link = plan->of_hosts[host];
    bool right = true;
    for (const absl::string_view word : absl::StrSplit(parts[1], ',')) {
      const std::pair<std::string, std::string> pair = absl::StrSplit(word, absl::MaxSplits('=', 1));
      right = right && !pair.second.empty() && (pair.first == "rate" || pair.first == "delay");
      (pair.first == "rate" ? link.rate : link.delay) = pair.second;
    }
    if (right) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--per-host ", text, ": write it as HOST:rate=R,delay=D, as 2:rate=100mbit"));
}

std::string LinkText(const Lab::Link& link) {
  return absl::StrCat(link.rate.empty() || link.rate == "none" ? "not shaped" : link.rate,
                      link.delay.empty() || link.delay == "none" ? "" : absl::StrCat(", ", link.delay, " each way"));
}

absl::Status Up(const std::string& name, const UpArguments& arguments) {
  ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
  Lab::Plan plan;
  plan.hosts = arguments.hosts;
  plan.link = {arguments.rate, arguments.delay};
  for (const std::string& one : arguments.per_host) RETURN_IF_ERROR(ReadPerHost(one, &plan));
  RETURN_IF_ERROR(lab.Up(plan));
  std::cout << "lab '" << name << "': " << CountText(int64_t{plan.hosts}, "host") << ", " << Lab::AddressOf(1)
            << (plan.hosts > 1 ? absl::StrCat(" to ", Lab::AddressOf(plan.hosts)) : "") << ", links "
            << LinkText(plan.link);
  for (const auto& [host, link] : plan.of_hosts) std::cout << "; of host " << host << " " << LinkText(link);
  std::cout << "\ntrain on it: lockstep run CONFIG --lab" << (name == kDefaultLab ? "" : absl::StrCat("=", name))
            << (CheckRoot(false).ok() ? "" : " --allow-root") << std::endl;
  return absl::OkStatus();
}

absl::Status Down(const std::string& name) {
  ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
  return lab.Down();
}

absl::Status List() {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, Lab::All());
  if (names.empty()) {
    std::cout << "no labs here; make one with: lockstep lab up --hosts 4 --rate 1gbit" << std::endl;
    return absl::OkStatus();
  }
  TextTable table({"lab", "host", "address", "rate", "delay"}, {true, true, true, false, false});
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
    ASSIGN_OR_RETURN(const std::vector<int> hosts, lab.Hosts());
    for (const int host : hosts) {
      const absl::StatusOr<Lab::Link> link = lab.LinkOf(host);
      if (!link.ok()) {
        ASSIGN_OR_RETURN(const std::vector<int> left, lab.Hosts());
        if (std::find(left.begin(), left.end(), host) == left.end()) continue;  // taken down meanwhile
        return link.status();
      }
      table.Add({host == hosts.front() ? name : "", Lab::NameOf(host), Lab::AddressOf(host),
                 link->rate.empty() ? "-" : link->rate, link->delay.empty() ? "-" : link->delay});
    }
  }
  std::cout << table.Text("") << std::flush;
  return absl::OkStatus();
}

absl::Status Become(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::cout << std::flush;
  execvp(argv[0], argv.data());
  return ErrnoStatus(errno, absl::StrCat("starting ", words[0]));
}

absl::Status On(const std::string& name, int host, const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
  RETURN_IF_ERROR(lab.CheckHost(host));
  return Become(lab.CommandOn(host, words));
}

// What mpirun calls to reach a host, as it would ssh: ADDRESS COMMAND…
absl::Status Rsh(const std::string& name, const std::vector<std::string>& words) {
  const int host = words.size() < 2 ? 0 : Lab::HostOf(words[0]);
  if (host == 0) return absl::InvalidArgumentError("lab rsh: no address of a lab's host, or no command");
  return On(name, host, {"sh", "-c", absl::StrJoin(words.begin() + 1, words.end(), " ")});
}

class LabCommands {
 public:
  LabCommands(CLI::App* lab, Action* action) : lab_(lab), action_(action) {}

  void AddUp() {
    auto arguments = std::make_shared<UpArguments>();
    CLI::App* command =
        Add("up", "Make hosts and links", [arguments](const std::string& name) { return Up(name, *arguments); });
    command->add_option("--hosts", arguments->hosts, "How many")->type_name("N")->required();
    command->add_option("--rate", arguments->rate, "Of each link: 1gbit, 200mbit (default: not shaped)")
        ->type_name("R");
    command->add_option("--delay", arguments->delay, "Of each link, one way: 5ms (default: none)")->type_name("D");
    command->add_option("--per-host", arguments->per_host, "Another for one host: 2:rate=100mbit,delay=5ms")
        ->type_name("H:K=V")
        ->take_all()
        ->allow_extra_args(false);
  }

  void AddShape(const std::string& what, const std::string& does, std::string Lab::Link::*field) {
    auto value = std::make_shared<std::string>();
    auto host = std::make_shared<int>(0);
    CLI::App* command = Add(what, does, [=](const std::string& name) {
      Lab::Link link;
      link.*field = *value;
      ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
      return lab.Shape(*host, link);
    });
    command->add_option("VALUE", *value, what == "rate" ? "1gbit, 200mbit, or none" : "5ms, or none")
        ->required()
        ->type_name("");
    AddHost(command, host.get(), false);
  }

  void AddLink(const std::string& what, const std::string& does, absl::Status (Lab::*link)(int) const) {
    auto host = std::make_shared<int>(0);
    CLI::App* command = Add(what, does, [=](const std::string& name) {
      ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
      return (lab.*link)(*host);
    });
    AddHost(command, host.get(), true);
  }

  // What follows the host is the command's, options and all.
  void AddOn() {
    auto host = std::make_shared<int>(0);
    auto own = std::make_shared<CLI::App*>(nullptr);
    *own = Add("on", "Run a command on a host: on 2 COMMAND…", [=](const std::string& name) -> absl::Status {
      const std::vector<std::string> words = (*own)->remaining();
      if (words.empty()) return absl::InvalidArgumentError("lab on: no command; write it after the host");
      return On(name, *host, words);
    });
    AddHost(*own, host.get(), true);
    (*own)->prefix_command();
  }

  void AddRsh() {
    auto own = std::make_shared<CLI::App*>(nullptr);
    *own = Add("rsh", "", [=](const std::string& name) { return Rsh(name, (*own)->remaining()); });
    (*own)->group("")->prefix_command();
  }

  template <typename Does>
  CLI::App* Add(const std::string& what, const std::string& does, Does run) {
    CLI::App* command = lab_->add_subcommand(what, does);
    auto name = std::make_shared<std::string>(kDefaultLab);
    command->add_option("--name", *name, "Of the lab, where there are several (default: lab)")->type_name("NAME");
    Action* const action = action_;
    command->callback([=] {
      *action = [=] {
        const absl::Status status = run(*name);
        return status.ok() ? kExitDone : Fail(status);
      };
    });
    return command;
  }

 private:
  static void AddHost(CLI::App* command, int* host, bool required) {
    CLI::Option* option = command->add_option("HOST", *host, required ? "1, 2, …" : "1, 2, … (default: all)");
    option->type_name("")->check(CLI::Range(1, Lab::kMostHosts).description(""));
    if (required) option->required();
  }

  CLI::App* const lab_;
  Action* const action_;
};

}  // namespace

void AddLab(CLI::App* app, Action* action) {
  CLI::App* lab = app->add_subcommand("lab", "A cluster on this machine: hosts with links of a rate that you choose");
  lab->require_subcommand(1);
  LabCommands commands(lab, action);
  commands.AddUp();
  commands.AddShape("rate", "Change the rate of all links, or of one host's", &Lab::Link::rate);
  commands.AddShape("delay", "Change the delay of all links, or of one host's", &Lab::Link::delay);
  commands.AddLink("cut", "Take a host's link down", &Lab::Cut);
  commands.AddLink("mend", "And up again", &Lab::Mend);
  commands.AddOn();
  commands.Add("list", "Labs, hosts, links", [](const std::string&) { return List(); });
  commands.Add("down", "Take the lab away, with all that runs in it",
               [](const std::string& name) { return Down(name); });
  commands.AddRsh();
  lab->footer("Needs root. Nothing is put into this machine's own network.");
}

}  // namespace lockstep
