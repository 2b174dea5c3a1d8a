#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "parallel/program/validate.h"

namespace strait {
namespace {

using PhaseKey = std::tuple<Kind, int, int, int>;  // micro-batch, layer, part
using ChunkKey = std::pair<int, int>;              // micro-batch, chunk

PhaseKey phase_of(const Task& task) { return {task.kind, task.microbatch, task.layer, task.part}; }
bool counts(const Task& task) { return task.lane == Lane::compute && task.microbatch >= 0; }

}  // namespace

PeakUse peak_use(const Program& program, const std::function<KeptBytes(const Task&)>& kept) {
  std::map<ChunkKey, size_t> last_of_chunk;
  std::set<PhaseKey> with_weights;
  for (size_t index = 0; index < program.tasks.size(); ++index) {
    const Task& task = program.tasks[index];
    if (!counts(task)) continue;
    last_of_chunk[{task.microbatch, task.chunk}] = index;
    if (task.pass == Pass::weight_gradient) with_weights.insert(phase_of(task));
  }
  PeakUse peak;
  int64_t bytes = 0;
  std::map<PhaseKey, KeptBytes> alive;
  std::set<ChunkKey> chunks;
  for (size_t index = 0; index < program.tasks.size(); ++index) {
    const Task& task = program.tasks[index];
    if (!counts(task)) continue;
    const ChunkKey chunk{task.microbatch, task.chunk};
    chunks.insert(chunk);
    peak.microbatches = std::max(peak.microbatches, static_cast<int>(chunks.size()));
    if (task.pass == Pass::forward) {
      const KeptBytes of_task = kept(task);
      alive[phase_of(task)] = of_task;
      bytes += of_task.until_input_gradient + of_task.until_weight_gradient;
    }
    if (bytes > peak.bytes) {
      peak.bytes = bytes;
      peak.task = static_cast<int>(index);
    }
    if (task.pass != Pass::forward) {
      KeptBytes& of_phase = alive[phase_of(task)];
      const bool is_last =
          task.pass == Pass::weight_gradient || !with_weights.contains(phase_of(task));
      bytes -= std::exchange(of_phase.until_input_gradient, 0);
      if (is_last) bytes -= std::exchange(of_phase.until_weight_gradient, 0);
    }
    if (last_of_chunk.at(chunk) == index) chunks.erase(chunk);
  }
  return peak;
}

}  // namespace strait
