#include "coordinator/supervise/hosts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(HostsTest, AListOfHostsWithAndWithoutSlots) {
  EXPECT_THAT(*ParseHosts("a:4, b.example.org:2,10.0.0.7"),
              ElementsAre(HostSlots{"a", 4}, HostSlots{"b.example.org", 2}, HostSlots{"10.0.0.7", 0}));
  EXPECT_EQ(HostsText(*ParseHosts("a:4,b")), "a:4,b");
}

TEST(HostsTest, WhatIsNoHostIsNamed) {
  for (const char* text : {"", "a,,b", "a:0", "a:-1", "a:x", "a:1:2", "fe80::1", "[fe80::1", "[x]:1", "a b",
                           "-oProxyCommand=x", "a;rm", "a,a:2", "a:100001", "a:1x"}) {
    EXPECT_EQ(ParseHosts(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_THAT(ParseHosts("a,b:x").status().message(), HasSubstr("'b:x' has 'x' for slots"));
  EXPECT_THAT(ParseHosts("a,a").status().message(), HasSubstr("'a' is named twice"));
}

TEST(HostsTest, AHostfileAsOpenMpiReadsIt) {
  EXPECT_THAT(
      *ParseHostfile("f", "# the rack\n\na slots=4   # first\n  b\tslots=8 max_slots=6\r\nc max_slots=2\nd:3\n"),
      ElementsAre(HostSlots{"a", 4}, HostSlots{"b", 6}, HostSlots{"c", 2}, HostSlots{"d", 3}));
  EXPECT_THAT(*ParseHostfile("f", "a\nb slots=2 worker=/opt/x/lockstep-worker\n"),
              ElementsAre(HostSlots{"a", 0}, HostSlots{"b", 2, "/opt/x/lockstep-worker"}));
  EXPECT_THAT(ParseHostfile("f", "a worker=here\n").status().message(), HasSubstr("f:1: 'worker=here' is no path"));
}

TEST(HostsTest, ErrorsOfAHostfileHaveTheirLine) {
  EXPECT_EQ(ParseHostfile("hosts.txt", "a\nb slot=2\n").status().message(),
            "hosts.txt:2: 'slot=2' is not known here; after a host stands slots=N or worker=PATH");
  EXPECT_EQ(ParseHostfile("hosts.txt", "# none\n").status().message(), "hosts.txt: names no host; write one a line");
  EXPECT_THAT(ParseHostfile("hosts.txt", "a\n\na\n").status().message(), HasSubstr("hosts.txt:3: 'a' is named twice"));
}

}  // namespace
}  // namespace lockstep
