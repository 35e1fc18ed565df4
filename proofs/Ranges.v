(** May the interval queue serve a rule whose hits count for some states only?

    In the plain rule a hit pulls all states that are far enough behind.  Where the
    hash restarts at the minimum, or a strict hit is no loose hit, a position pulls some
    ranges of states and no others.  Such a sweep is sound, as long as the ranges (with
    the forced cuts) are what the rule does to the states that live. *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking LiveSet Queue.
Import ListNotations.

Definition range := (nat * nat)%type.
Definition in_range (b : nat) (r : range) : bool := (fst r <=? b) && (b <=? snd r).
Definition pulled_by (ranges : list range) (b : nat) : bool := existsb (in_range b) ranges.

Section Ranges.
  Variables min max : nat.
  Hypothesis sizes : 1 <= min <= max.
  Let positive : 1 <= max := Nat.le_trans _ _ _ (proj1 sizes) (proj2 sizes).

  (** * The program *)

  (** Take the states of a range out. *)
  Fixpoint take_out (r : range) (live : intervals) : intervals :=
    match live with
    | [] => []
    | (a, z) :: rest =>
        if (z <? fst r) || (snd r <? a) then (a, z) :: take_out r rest
        else (if a <? fst r then [(a, fst r - 1)] else [])
             ++ (if snd r <? z then [(snd r + 1, z)] else [])
             ++ take_out r rest
    end.

  Definition touched (r : range) (live : intervals) : bool :=
    existsb (fun i => (fst r <=? snd i) && (fst i <=? snd r)) live.

  (** Pull the states of a range to [c], wherever in the queue they are. *)
  Definition pull_range (c : nat) (live : intervals) (r : range) : intervals :=
    if (fst r <=? snd r) && touched r live then append (take_out r live) c c else live.

  Fixpoint sweep_events (live : intervals) (events : list (nat * list range)) (e : nat) : option nat :=
    match events with
    | [] => certified (settle max e live)
    | (c, ranges) :: rest =>
        let settled := settle max c live in
        match certified settled with
        | Some d => Some d
        | None =>
            let pulled := fold_left (pull_range c) ranges settled in
            match certified pulled with
            | Some d => Some d
            | None => sweep_events pulled rest e
            end
        end
    end.

  (** * Proof *)

  Lemma in_range_spec : forall b r, in_range b r = true <-> fst r <= b <= snd r.
  Proof. intros. unfold in_range. now rewrite andb_true_iff, !Nat.leb_le. Qed.

  Lemma take_out_spec : forall r live lo, fst r <= snd r -> ascends lo live ->
    ascends lo (take_out r live)
    /\ (forall hi, all_below hi live -> all_below hi (take_out r live))
    /\ forall b, member b (take_out r live) <-> member b live /\ in_range b r = false.
  Proof.
    intros [l u] live lo Ne. simpl in Ne. revert lo.
    assert (Out : forall b, in_range b (l, u) = false <-> b < l \/ u < b).
    { intros b. rewrite <- not_true_iff_false, in_range_spec. simpl. lia. }
    induction live as [|[a z] rest IH]; intros lo A; simpl.
    - split; [trivial|split; [trivial|]]. intros b. split; [now intros (i & [] & _)|tauto].
    - simpl in A. destruct A as (La & A). destruct (IH (S z) A) as (A' & B' & M).
      assert (Below : forall hi, all_below hi ((a, z) :: rest) -> z < hi /\ all_below hi rest).
      { intros hi B. now inversion B. }
      destruct (Nat.ltb_spec z l) as [Before|]; [|destruct (Nat.ltb_spec u a) as [Past|]]; simpl.
      1-2: split; [split; [lia|assumption]|]; split;
        [intros hi B; destruct (Below hi B); constructor; [simpl; lia|now apply B']
        |intros b; rewrite !member_cons, M, Out; intuition lia].
      destruct (Nat.ltb_spec a l), (Nat.ltb_spec u z); simpl.
      + split; [repeat split; try lia; exact A'|]. split.
        * intros hi B. destruct (Below hi B). repeat (constructor; [simpl; lia|]). now apply B'.
        * intros b. rewrite !member_cons, M, Out. intuition lia.
      + split; [split; [lia|]; apply (ascends_weaken _ (S z)); trivial; lia|]. split.
        * intros hi B. destruct (Below hi B). constructor; [simpl; lia|]. now apply B'.
        * intros b. rewrite !member_cons, M, Out. intuition lia.
      + split; [split; [lia|exact A']|]. split.
        * intros hi B. destruct (Below hi B). constructor; [simpl; lia|]. now apply B'.
        * intros b. rewrite !member_cons, M, Out. intuition lia.
      + split; [apply (ascends_weaken _ (S z)); trivial; lia|]. split.
        * intros hi B. destruct (Below hi B). now apply B'.
        * intros b. rewrite !member_cons, M, Out. intuition lia.
  Qed.

  Lemma touched_spec : forall r live lo, fst r <= snd r -> ascends lo live ->
    (touched r live = true <-> exists b, member b live /\ in_range b r = true).
  Proof.
    intros r live lo Ne. revert lo. induction live as [|[a z] rest IH]; intros lo A; simpl.
    - split; [easy|]. now intros (b & (i & [] & _) & _).
    - simpl in A. destruct A as (La & A). rewrite orb_true_iff, (IH _ A), andb_true_iff, !Nat.leb_le.
      split.
      + intros [R|(b & M & I)]; [|exists b; rewrite member_cons; auto].
        exists (Nat.max a (fst r)). rewrite member_cons, in_range_spec. split; [left|]; lia.
      + intros (b & M & I). rewrite member_cons in M. destruct M as [R|M]; [|eauto].
        apply in_range_spec in I. left. lia.
  Qed.

  (** Pulling ranges moves exactly the states of the ranges. *)
  Lemma pull_range_spec : forall c r live lo,
    ascends lo live -> all_below (S c) live -> lo <= c ->
    ascends lo (pull_range c live r) /\ all_below (S c) (pull_range c live r)
    /\ forall d, member d (pull_range c live r) <->
         exists b, member b live /\ d = (if in_range b r then c else b).
  Proof.
    intros c r live lo A B L. unfold pull_range.
    assert (Same : (forall b, member b live -> in_range b r = false) ->
              forall d, member d live <-> exists b, member b live /\ d = (if in_range b r then c else b)).
    { intros No d. split; [intros M; exists d; now rewrite No|]. intros (b & M & ->). now rewrite No. }
    destruct (Nat.leb_spec (fst r) (snd r)) as [Ne|Em]; simpl.
    2:{ split; [assumption|split; [assumption|]]. apply Same. intros b _.
        apply not_true_iff_false. rewrite in_range_spec. lia. }
    destruct (touched r live) eqn:T.
    - destruct (take_out_spec r live lo Ne A) as (A' & B' & M).
      destruct (append_spec (take_out r live) lo c c A') as (A2 & B2 & M2); [|lia|].
      { intros b Mb. apply M in Mb. pose proof (all_below_member _ _ _ B (proj1 Mb)). lia. }
      split; [assumption|split; [apply B2; auto|]]. intros d. rewrite M2, M. split.
      + intros [(Md & I)|R].
        * exists d. now rewrite I.
        * apply (touched_spec _ _ _ Ne A) in T. destruct T as (b & Mb & I). exists b.
          rewrite I. split; [assumption|lia].
      + intros (b & Mb & ->). destruct (in_range b r) eqn:I; [right; lia|auto].
    - split; [assumption|split; [assumption|]]. apply Same. intros b M.
      apply not_true_iff_false. intros I. apply not_true_iff_false in T. apply T.
      apply (touched_spec _ _ _ Ne A). eauto.
  Qed.

  Lemma pull_ranges_spec : forall c ranges live lo,
    ascends lo live -> all_below (S c) live -> lo <= c ->
    ascends lo (fold_left (pull_range c) ranges live)
    /\ all_below (S c) (fold_left (pull_range c) ranges live)
    /\ forall d, member d (fold_left (pull_range c) ranges live) <->
         exists b, member b live /\ d = (if pulled_by ranges b then c else b).
  Proof.
    intros c. induction ranges as [|r ranges IH]; intros live lo A B L; simpl.
    - split; [assumption|split; [assumption|]]. intros d.
      split; [intros M; exists d; auto|now intros (b & M & ->)].
    - destruct (pull_range_spec c r live lo A B L) as (A' & B' & M).
      destruct (IH _ lo A' B' L) as (A2 & B2 & M2). split; [assumption|split; [assumption|]].
      intros d. rewrite M2. split.
      + intros (b' & Mb & ->). apply M in Mb. destruct Mb as (b & Mb & ->). exists b.
        split; [assumption|]. destruct (in_range b r); simpl; trivial.
        now destruct (pulled_by ranges c).
      + intros (b & Mb & ->). exists (if in_range b r then c else b).
        split; [apply M; eauto|]. destruct (in_range b r); simpl; trivial.
        now destruct (pulled_by ranges c).
  Qed.

  (** ** A sweep by ranges is sound *)

  Variable f : rule.
  Hypothesis Hf : bounded min max f.
  (** [ranges x]: the states that position [x] pulls; nothing at most positions. *)
  Variable ranges : nat -> list range.

  Fixpoint events_from (x k : nat) : list (nat * list range) :=
    match k with
    | 0 => []
    | S j => match ranges x with
             | [] => events_from (S x) j
             | r => (x, r) :: events_from (S x) j
             end
    end.

  (** The ranges, and the forced cuts, are the rule. *)
  Definition ranges_are_rule (p e : nat) : Prop :=
    forall x b, p <= x < e -> b < x <= b + max ->
    f b x = (x =? b + max) || pulled_by (ranges x) b.

  Lemma sweep_events_after : forall k x live states, ranges_are_rule x (x + k) ->
    refines max x live states -> states <> [] ->
    forall c, sweep_events live (events_from x k) (x + k) = Some c ->
    exists j, j <= k /\ forall b, In b states -> after f b x j = c.
  Proof.
    induction k as [|k IH]; intros x live states Acts R Ne c E.
    - exists 0. split; [lia|]. simpl in E.
      rewrite Nat.add_0_r, (settled_question _ positive _ _ _ R Ne) in E.
      now apply one_left_spec in E.
    - assert (Nm : map (step f x) states <> []) by (intros Z; now apply Ne, (map_eq_nil (step f x))).
      pose proof (state_range _ positive _ _ _ R) as Range.
      assert (Rest : forall live', refines max (S x) live' (map (step f x) states) ->
                sweep_events live' (events_from (S x) k) (x + S k) = Some c ->
                exists j, j <= S k /\ forall b, In b states -> after f b x j = c).
      { intros live' R' E'. replace (x + S k) with (S x + k) in E' by lia.
        destruct (IH (S x) live' (map (step f x) states)) with (c := c) as (j & Lj & All); trivial.
        { intros y b Ry. apply Acts. lia. }
        exists (S j). split; [lia|]. intros b I. cbn [after]. apply All. now apply in_map. }
      assert (Act : forall a, In a states -> f a x = (x =? a + max) || pulled_by (ranges x) a).
      { intros a I. apply Acts; [lia|now apply Range]. }
      cbn [events_from] in E. destruct (ranges x) as [|r rs] eqn:Rx.
      + apply (Rest live); trivial. apply (refines_forced max positive); trivial.
        intros a I. unfold step. rewrite (Act a I). simpl. unfold forced_only. now rewrite orb_false_r.
      + cbn [sweep_events] in E. rewrite (settled_question _ positive _ _ _ R Ne) in E.
        destruct (one_left states) eqn:O; [injection E as <-|].
        { exists 0. split; [lia|]. now apply one_left_spec in O. }
        destruct (refines_settled _ positive _ _ _ R) as ((A & B & C) & M).
        assert (C' : all_below (S x) (settle max x live)) by (apply (all_below_weaken _ x); trivial; lia).
        destruct (pull_ranges_spec x (r :: rs) _ (x - max) A C' ltac:(lia)) as (A' & B' & M').
        set (live' := fold_left (pull_range x) (r :: rs) (settle max x live)) in *.
        (* The forced state, if it lives, is still to be moved: settling does it. *)
        assert (R' : refines max (S x) live' (map (step f x) states)).
        { split.
          - exists (x - max). split; [assumption|split; [|assumption]].
            apply (all_below_weaken _ (S x)); trivial; lia.
          - intros c0. rewrite in_map_iff.
            assert (Forced : forall a, In a states ->
                      forced max (S x) (if pulled_by (r :: rs) a then x else a) = step f x a).
            { intros a I. pose proof (Range _ I). unfold step. rewrite (Act a I).
              destruct (pulled_by (r :: rs) a).
              - rewrite orb_true_r. apply (forced_stays max positive); lia.
              - rewrite orb_false_r. destruct (Nat.eqb_spec x (a + max)) as [Ex|Ex].
                + rewrite (forced_moves max positive) by lia.
                  rewrite <- Ex. apply (forced_stays max positive); lia.
                + apply (forced_stays max positive); lia. }
            split.
            + intros (a & <- & I). exists (if pulled_by (r :: rs) a then x else a).
              split; [|now apply Forced]. apply M'. exists a. split; [now apply M|reflexivity].
            + intros (b & Mb & <-). apply M' in Mb. destruct Mb as (a & Ma & ->). apply M in Ma.
              exists a. split; [symmetry; now apply Forced|assumption]. }
        destruct (certified live') as [d|] eqn:Q; [injection E as <-|exact (Rest _ R' E)].
        (* One state is left: the pulled position, where all have gone. *)
        assert (Ns : settle max x live <> []).
        { destruct states as [|a states]; [easy|]. intros Z.
          pose proof (proj1 (M a) (or_introl eq_refl)) as Ma. rewrite Z in Ma. now destruct Ma as (i & [] & _). }
        assert (Nl : live' <> []).
        { destruct states as [|a states]; [easy|]. intros Z.
          assert (N : member (if pulled_by (r :: rs) a then x else a) live')
            by (apply M'; exists a; split; [apply M; now left|reflexivity]).
          rewrite Z in N. now destruct N as (i & [] & _). }
        pose proof (proj1 (certified_spec _ _ d A' Nl) Q) as All.
        assert (Moved : forall a, In a states -> (if pulled_by (r :: rs) a then x else a) = d).
        { intros a I. apply All, M'. exists a. split; [now apply M|reflexivity]. }
        destruct (Nat.eq_dec d x) as [->|D].
        * exists 1. split; [lia|]. intros b I. cbn [after]. unfold step. rewrite (Act b I).
          specialize (Moved b I). destruct (pulled_by (r :: rs) b); [now rewrite orb_true_r|].
          pose proof (Range _ I). lia.
        * (* nothing was pulled: then it was left alone before *)
          exfalso. rewrite (proj2 (one_left_spec states d)) in O; [easy|]. split; [assumption|].
          intros a I. specialize (Moved a I). destruct (pulled_by (r :: rs) a); congruence.
  Qed.

  (** Soundness: whatever ranges the program finds, if they are what the rule does in
      the segment [p, e), what it certifies is a cut of every chunking begun before. *)
  Theorem sweep_events_sound : forall p e c, p <= e -> ranges_are_rule p e ->
    sweep_events [(p - max, p - 1)] (events_from p (e - p)) e = Some c ->
    forall o, o < p -> exists y, p <= y <= e /\ last_cut_before min max f o y c.
  Proof.
    intros p e c Le Acts E o L. replace e with (p + (e - p)) in Acts, E at 2 by lia.
    destruct (sweep_events_after _ _ _ _ Acts (refines_before max positive p ltac:(lia))
                (before_not_empty _ _ sizes p ltac:(lia)) _ E) as (j & Lj & All).
    exists (p + j). split; [lia|].
    pose proof (last_cut_exists _ _ sizes _ Hf o p L) as La.
    rewrite <- (All (after f o (S o) (p - S o))).
    - now apply after_is_last_cut.
    - apply in_before. exact (last_cut_near _ _ sizes _ Hf _ _ _ La).
  Qed.
End Ranges.
