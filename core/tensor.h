// core/tensor.h: a typed, shaped block of a rank's Memory.
//
// A Tensor is a handle: copies share the storage, the last one frees it. Rows are contiguous; a
// column view of a matrix has a row stride larger than its width. Everything else (transposes,
// broadcasts) belongs to the ops. Handles may be copied between threads; the contents are not
// synchronised.
#pragma once

#include <array>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "core/dtype.h"
#include "core/errors.h"
#include "core/memory.h"

namespace strait {

class Shape {
 public:
  static constexpr int kMaxDims = 4;
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);
  int rank() const { return rank_; }
  int64_t operator[](int dim) const { return sizes_[static_cast<size_t>(dim)]; }
  int64_t numel() const;
  std::string str() const;  // "[4, 512]"
  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, kMaxDims> sizes_{};
  int rank_ = 0;
};

class Tensor {
 public:
  Tensor() = default;
  // Contents are not initialised.
  Tensor(std::shared_ptr<Memory> memory, Shape shape, DType dtype, Purpose purpose);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int index) const { return shape_[index]; }
  int64_t numel() const { return shape_.numel(); }
  int64_t bytes() const { return numel() * static_cast<int64_t>(size_of(dtype_)); }
  DType dtype() const { return dtype_; }
  Device device() const;
  // The matrix view of the tensor: all dimensions but the last are rows.
  int64_t rows() const;
  int64_t cols() const { return shape_.rank() == 0 ? 1 : shape_[shape_.rank() - 1]; }
  int64_t row_stride() const { return row_stride_; }  // in elements; cols() when contiguous
  bool untouched() const;  // at birth: its bytes were zero already (see Memory::Block)
  bool unique() const { return storage_.use_count() == 1; }  // no other handle shares the storage
  bool contiguous() const { return row_stride_ == cols() || rows() <= 1; }

  // REQUIRES: T matches dtype() and device() is cpu.
  template <class T>
  T* data() const {
    STRAIT_CHECK(dtype_of<T>() == dtype_, std::string("tensor is ") + name_of(dtype_));
    return reinterpret_cast<T*>(raw());
  }
  template <class T>
  std::span<T> span() const {  // REQUIRES: contiguous()
    return {data<T>(), static_cast<size_t>(numel())};
  }
  std::byte* raw() const;  // REQUIRES: device() is cpu (null for an empty tensor)

  Tensor view(Shape shape) const;                         // REQUIRES: contiguous, same numel
  Tensor slice_rows(int64_t begin, int64_t count) const;  // of the matrix view
  Tensor slice_cols(int64_t begin, int64_t count) const;  // of the matrix view; strided

 private:
  struct Storage;
  std::shared_ptr<Storage> storage_;
  Shape shape_;
  DType dtype_ = DType::f32;
  int64_t offset_ = 0;  // elements from the start of the storage
  int64_t row_stride_ = 0;
};

}  // namespace strait
