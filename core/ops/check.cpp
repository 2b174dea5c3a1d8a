#include "core/ops/check.h"

#include <algorithm>

namespace strait {
namespace {

std::string names_of(std::initializer_list<DType> dtypes) {
  std::string text;
  for (DType dtype : dtypes) {
    text += text.empty() ? " " : " or ";
    text += name_of(dtype);
  }
  return text;
}

std::string size_text(int64_t size, const char* any) {
  return size == kAnySize ? any : std::to_string(size);
}

[[noreturn]] void throw_mismatch(const char* op, const char* name, const Tensor& tensor,
                                 const std::string& expected) {
  std::string got = "no tensor";
  if (tensor.defined()) {
    got = tensor.shape().str() + " " + name_of(tensor.dtype());
    if (!tensor.contiguous()) got += " with row stride " + std::to_string(tensor.row_stride());
  }
  throw_operand(op, std::string(name) + ": expected " + expected + ", got " + got);
}

bool contains(std::initializer_list<DType> dtypes, DType dtype) {
  return std::find(dtypes.begin(), dtypes.end(), dtype) != dtypes.end();
}

}  // namespace

void throw_operand(const char* op, const std::string& message) {
  throw InternalError(std::string("[") + op + "] " + message);
}

void check_matrix(const char* op, const char* name, const Tensor& tensor, int64_t rows,
                  int64_t cols, std::initializer_list<DType> dtypes) {
  if (tensor.defined() && contains(dtypes, tensor.dtype()) &&
      (rows == kAnySize || tensor.rows() == rows) && (cols == kAnySize || tensor.cols() == cols))
    return;
  throw_mismatch(
      op, name, tensor,
      "[" + size_text(rows, "rows") + ", " + size_text(cols, "columns") + "]" + names_of(dtypes));
}

void check_flat(const char* op, const char* name, const Tensor& tensor, int64_t numel,
                std::initializer_list<DType> dtypes) {
  if (tensor.defined() && contains(dtypes, tensor.dtype()) && tensor.contiguous() &&
      (numel == kAnySize || tensor.numel() == numel))
    return;
  throw_mismatch(op, name, tensor,
                 size_text(numel, "any number of") + " contiguous" + names_of(dtypes));
}

}  // namespace strait
