#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>
#include <linux/vfio.h>
#include <libvfio.h>
static long now(void){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return t.tv_sec*1000000000L+t.tv_nsec;}
static void mem(struct vfio_pci_device*d,int on){u16 c=vfio_pci_config_readw(d,PCI_COMMAND);c=on?c|2:c&~2;vfio_pci_config_writew(d,PCI_COMMAND,c);}
#define N 1000
int main(int argc,char**argv){
	const char*bdf=vfio_selftests_get_bdf(&argc,argv);
	struct iommu*iommu=iommu_init("iommufd");
	struct vfio_pci_device*d=vfio_pci_device_init(bdf,iommu);
	int b=-1,i;size_t sz=0;long t;static void*m[N];static int fd[N];volatile u32 s;
	for(i=0;i<6;i++)if(d->bars[i].vaddr&&d->bars[i].info.size>sz){b=i;sz=d->bars[i].info.size;}
	struct vfio_pci_bar*bar=&d->bars[b];
	printf("1..1\n");
	munmap(bar->vaddr,sz);bar->vaddr=NULL;
	/* 4K faults: misaligned mapping */
	size_t len=SZ_16M; char*res=mmap(NULL,len+SZ_4M,PROT_NONE,MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE,-1,0);
	res=(char*)(((unsigned long)res+SZ_2M)&~(SZ_2M-1UL))+4096;
	for(int k=0;k<2;k++){
	char*p=mmap(res,len,PROT_READ|PROT_WRITE,MAP_SHARED|MAP_FIXED,d->fd,bar->info.offset);
	t=now();for(size_t o=0;o<len;o+=4096)s=*(volatile u32*)(p+o);t=now()-t;
	if(k)printf("# fault4k_devfd %ld\n",t/(long)(len/4096));
	t=now();mem(d,0);t=now()-t; if(k)printf("# off_mapped16M %ld\n",t); mem(d,1);
	munmap(p,len);}
	for(int k=0;k<2;k++){ char*q;
	t=now();q=mmap(NULL,4096,PROT_READ,MAP_SHARED,d->fd,bar->info.offset);t=now()-t; if(k)printf("# mmap_first %ld\n",t);
	t=now();m[0]=mmap(NULL,4096,PROT_READ,MAP_SHARED,d->fd,bar->info.offset);t=now()-t; if(k)printf("# mmap_more %ld\n",t);
	t=now();munmap(m[0],4096);t=now()-t; if(k)printf("# munmap %ld\n",t);
	for(i=0;i<N;i++)m[i]=mmap(NULL,4096,PROT_READ,MAP_SHARED,d->fd,bar->info.offset);
	for(i=0;i<N;i++)s=*(volatile u32*)m[i];
	for(int z=0;z<4;z++){mem(d,1);for(i=0;i<N;i++)s=*(volatile u32*)m[i];
	t=now();mem(d,0);t=now()-t; if(k)printf("# off_1000maps %ld\n",t);}
	t=now();mem(d,1);t=now()-t; if(k)printf("# on_1000maps %ld\n",t);
	for(i=0;i<N;i++)munmap(m[i],4096); munmap(q,4096);}
	for(int k=0;k<2;k++){
	t=now();for(i=0;i<N;i++)fd[i]=__vfio_pci_dma_buf_export(d,b,0,4096);t=now()-t; if(k)printf("# export %ld\n",t/N);
	t=now();mem(d,0);t=now()-t; if(k)printf("# off_1000idle %ld\n",t);
	t=now();mem(d,1);t=now()-t; if(k)printf("# on_1000idle %ld\n",t);
	for(i=0;i<N;i++)close(fd[i]);}
#ifdef NEW
	int f=vfio_pci_dma_buf_export(d,b,0,len);
	for(int k=0;k<2;k++){
	char*p=mmap(res,len,PROT_READ|PROT_WRITE,MAP_SHARED|MAP_FIXED,f,0);
	t=now();for(size_t o=0;o<len;o+=4096)s=*(volatile u32*)(p+o);t=now()-t;
	if(k)printf("# fault4k_exported %ld\n",t/(long)(len/4096));
	munmap(p,len);}
	static struct vfio_region_dma_range r[4096]; for(i=0;i<4096;i++){r[i].offset=(u64)((i*2654435761u)%4096)*8192;r[i].length=4096;}
	int g=__vfio_pci_dma_buf_export_ranges(d,b,O_RDWR,r,4096);
	for(int k=0;k<2;k++){
	char*p=mmap(res,len,PROT_READ|PROT_WRITE,MAP_SHARED|MAP_FIXED,g,0);
	t=now();for(size_t o=0;o<len;o+=4096)s=*(volatile u32*)(p+o);t=now()-t;
	if(k)printf("# fault4k_4096ranges %ld\n",t/(long)(len/4096));
	munmap(p,len);}
	for(int k=0;k<2;k++){ int e=vfio_pci_dma_buf_export(d,b,0,4096); char*p=mmap(NULL,4096,PROT_READ,MAP_SHARED,e,0); s=*(volatile u32*)p;
	t=now();vfio_pci_dma_buf_revoke(d,e);t=now()-t; if(k)printf("# revoke_alone %ld\n",t); munmap(p,4096);close(e);}
	for(i=0;i<N;i++){fd[i]=__vfio_pci_dma_buf_export(d,b,0,4096);m[i]=mmap(NULL,4096,PROT_READ,MAP_SHARED,fd[i],0);s=*(volatile u32*)m[i];}
	for(int k=0;k<2;k++){ int e=vfio_pci_dma_buf_export(d,b,0,4096); char*p=mmap(NULL,4096,PROT_READ,MAP_SHARED,e,0); s=*(volatile u32*)p;
	t=now();vfio_pci_dma_buf_revoke(d,e);t=now()-t; if(k)printf("# revoke_1000 %ld\n",t); munmap(p,4096);close(e);}
#endif
	printf("ok 1 bar_perf\n");return 0;}
