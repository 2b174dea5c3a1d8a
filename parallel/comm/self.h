// parallel/comm/self.h: a world of one rank. Groups of one need no messages; lanes and events work
// as everywhere.
#pragma once

#include <memory>

#include "parallel/comm/comm.h"

namespace strait {

std::unique_ptr<Comm> self_comm();

}  // namespace strait
