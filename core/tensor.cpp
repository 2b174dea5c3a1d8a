#include "core/tensor.h"

namespace strait {

Shape::Shape(std::initializer_list<int64_t> sizes) {
  STRAIT_CHECK(sizes.size() <= kMaxDims, "a tensor has at most 4 dimensions");
  for (int64_t size : sizes) {
    STRAIT_CHECK(size >= 0, "negative size");
    sizes_[static_cast<size_t>(rank_++)] = size;
  }
}

int64_t Shape::numel() const {
  int64_t product = 1;
  for (int dim = 0; dim < rank_; ++dim) product *= sizes_[static_cast<size_t>(dim)];
  return product;
}

std::string Shape::str() const {
  std::string text = "[";
  for (int dim = 0; dim < rank_; ++dim) {
    if (dim > 0) text += ", ";
    text += std::to_string((*this)[dim]);
  }
  return text + "]";
}

const char* name_of(DType dtype) {
  static constexpr const char* kNames[] = {"f32", "bf16", "i32", "i64", "u16", "u8", "e4m3"};
  return kNames[static_cast<int>(dtype)];
}

struct Tensor::Storage {
  std::shared_ptr<Memory> memory;
  Memory::Block block;
  Purpose purpose;
  Storage(std::shared_ptr<Memory> m, int64_t bytes, Purpose p)
      : memory(std::move(m)), block(memory->allocate(bytes, p)), purpose(p) {}
  ~Storage() { memory->release(block, purpose); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
};

Tensor::Tensor(std::shared_ptr<Memory> memory, Shape shape, DType dtype, Purpose purpose)
    : storage_(std::make_shared<Storage>(
          std::move(memory), shape.numel() * static_cast<int64_t>(size_of(dtype)), purpose)),
      shape_(shape),
      dtype_(dtype),
      row_stride_(shape.rank() == 0 ? 1 : shape[shape.rank() - 1]) {}

Device Tensor::device() const {
  STRAIT_CHECK(defined());
  return storage_->memory->device();
}

bool Tensor::untouched() const { return storage_->block.untouched; }

int64_t Tensor::rows() const {
  int64_t product = 1;
  for (int dim = 0; dim + 1 < shape_.rank(); ++dim) product *= shape_[dim];
  return product;
}

std::byte* Tensor::raw() const {
  STRAIT_CHECK(defined() && storage_->memory->device() == Device::cpu, "tensor has no data");
  if (storage_->block.data == nullptr) return nullptr;
  return storage_->block.data + offset_ * static_cast<int64_t>(size_of(dtype_));
}

Tensor Tensor::view(Shape shape) const {
  STRAIT_CHECK(contiguous() && shape.numel() == numel(), shape_.str() + " as " + shape.str());
  Tensor result = *this;
  result.shape_ = shape;
  result.row_stride_ = result.cols();
  return result;
}

Tensor Tensor::slice_rows(int64_t begin, int64_t count) const {
  STRAIT_CHECK(begin >= 0 && count >= 0 && begin + count <= rows());
  Tensor result = *this;
  result.shape_ = {count, cols()};
  result.offset_ += begin * row_stride_;
  return result;
}

Tensor Tensor::slice_cols(int64_t begin, int64_t count) const {
  STRAIT_CHECK(begin >= 0 && count >= 0 && begin + count <= cols());
  Tensor result = *this;
  result.shape_ = {rows(), count};
  result.offset_ += begin;
  return result;
}

}  // namespace strait
