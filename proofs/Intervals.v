(** Why may the live set be kept as a handful of intervals that only hits touch?

    The sweep of the plain rule over recorded hits, with the queue of Queue.v.  It
    certifies the same cut as the live set of LiveSet.v, position by position. *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking Rule LiveSet Queue.
Import ListNotations.

(** * The sweep over the hits of the plain rule *)

Section Plain.
  Variables min normal max : nat.
  Hypothesis sizes : 1 <= min <= normal /\ normal <= max.
  Let sizes' : 1 <= min <= max := min_max_sizes _ _ _ sizes.
  Let positive : 1 <= max := max_positive _ _ _ sizes.
  Notation refines := (refines max).

  (** The sweep over the recorded hits before [e]. *)
  Fixpoint sweep_hits (live : intervals) (record : list (nat * bool)) (e : nat) : option nat :=
    match record with
    | [] => certified (settle max e live)
    | (c, is_strict) :: rest =>
        let settled := settle max c live in
        match certified settled with
        | Some d => Some d
        | None =>
            let pulled := pull c (need min normal is_strict) settled in
            match certified pulled with
            | Some d => Some d
            | None => sweep_hits pulled rest e
            end
        end
    end.

  (** The first certified cut of a worker that starts at [p] and sees the hits of [p, e). *)
  Definition certify_sparse (record : list (nat * bool)) (p e : nat) : option nat :=
    sweep_hits [(p - max, p - 1)] record e.

  Section Refinement.
    Variable h : hits.
    Hypothesis Nested : nested h.
    Notation f := (plain min normal max h).

    Lemma refines_quiet : forall x live states, refines x live states -> loose h x = false ->
      refines (S x) live (map (step f x) states).
    Proof.
      intros x live states R Q. apply (refines_forced _ positive); trivial.
      intros a _. unfold step, forced_only. now rewrite plain_no_hit.
    Qed.

    (** At a hit: settle, then pull. *)
    Definition at_hit (x : nat) (live : intervals) : intervals :=
      pull x (need min normal (strict h x)) (settle max x live).

    Lemma refines_hit : forall x live states, refines x live states -> loose h x = true ->
      states <> [] ->
      refines (S x) (at_hit x live) (map (step f x) states)
      /\ certified (at_hit x live) = one_left (map (step f x) states).
    Proof.
      intros x live states R H Ne. pose proof (state_range _ positive _ _ _ R) as Range.
      assert (Ge : 1 <= need min normal (strict h x) <= max) by (unfold need; destruct (strict h x); lia).
      destruct (refines_settled _ positive _ _ _ R) as (O & M).
      destruct (pull_refines _ positive x _ _ Ge O) as (O' & M'). fold (at_hit x live) in O', M'.
      assert (Members : forall c, In c (map (step f x) states) <-> member c (at_hit x live)).
      { intros c. rewrite in_map_iff, M'. split.
        - intros (a & <- & I). exists a. split; [now apply M|]. unfold step.
          rewrite plain_at_hit; trivial. now apply Range.
        - intros (a & Ma & ->). exists a. apply M in Ma. split; trivial. unfold step.
          rewrite plain_at_hit; trivial. now apply Range. }
      split.
      - split; [eauto|]. intros c. rewrite Members.
        assert (Stays : forall b, member b (at_hit x live) -> forced max (S x) b = b).
        { intros b Mb. apply (forced_stays max positive). destruct O' as (A & _).
          pose proof (ascends_member _ _ _ A Mb). lia. }
        split; [intros Mc; exists c; auto|]. intros (b & Mb & <-). now rewrite Stays.
      - destruct O' as (A & _). apply (same_question _ _ _ A); [|exact Members].
        intros E. now apply Ne, (map_eq_nil (step f x)).
    Qed.

    (** Soundness of the sparse sweep, whatever the live set it starts from: at some [y]
        all states have gone to what it returns. *)
    Lemma sweep_hits_after : forall k x live states, refines x live states -> states <> [] ->
      forall c, sweep_hits live (hits_from h x k) (x + k) = Some c ->
      exists j, j <= k /\ forall b, In b states -> after f b x j = c.
    Proof.
      induction k as [|k IH]; intros x live states R Ne c E.
      - exists 0. split; [lia|]. simpl in E. rewrite Nat.add_0_r, (settled_question _ positive _ _ _ R Ne) in E.
        now apply one_left_spec in E.
      - assert (Nm : map (step f x) states <> []) by (intros Z; now apply Ne, (map_eq_nil (step f x))).
        assert (Rest : forall live', refines (S x) live' (map (step f x) states) ->
                  sweep_hits live' (hits_from h (S x) k) (x + S k) = Some c ->
                  exists j, j <= S k /\ forall b, In b states -> after f b x j = c).
        { intros live' R' E'. replace (x + S k) with (S x + k) in E' by lia.
          destruct (IH _ _ _ R' Nm _ E') as (j & Lj & All).
          exists (S j). split; [lia|]. intros b I. cbn [after]. apply All. now apply in_map. }
        rewrite hits_from_cons in E. destruct (loose h x) eqn:H; [|exact (Rest _ (refines_quiet _ _ _ R H) E)].
        cbn [sweep_hits] in E. rewrite (settled_question _ positive _ _ _ R Ne) in E.
        destruct (one_left states) eqn:O; [injection E as <-|].
        { exists 0. split; [lia|]. now apply one_left_spec in O. }
        destruct (refines_hit _ _ _ R H Ne) as (R' & Q). fold (at_hit x live) in E. rewrite Q in E.
        destruct (one_left (map _ _)) eqn:O'; [injection E as <-|exact (Rest _ R' E)].
        exists 1. split; [lia|]. intros b I. cbn [after]. apply one_left_spec in O'.
        apply O'. now apply in_map.
    Qed.

    (** The sparse sweep finds what the sweep over positions finds. *)
    Lemma sweep_hits_exact : forall k x live states a1 a2, refines x live states ->
      In a1 states -> In a2 states -> a1 <> a2 ->
      sweep_hits live (hits_from h x k) (x + k) = first_certified (sure f) states x k.
    Proof.
      induction k as [|k IH]; intros x live states a1 a2 R I1 I2 D;
        assert (Ne : states <> []) by (now intros ->);
        assert (Two : forall states b1 b2, In b1 states -> In b2 states -> b1 <> b2 -> one_left states = None)
          by (intros l b1 b2 J1 J2 Db; destruct (one_left l) eqn:O; trivial;
              apply one_left_spec in O; destruct O as [_ O]; rewrite (O _ J1), (O _ J2) in Db; easy).
      - simpl. rewrite Nat.add_0_r, (settled_question _ positive _ _ _ R Ne). eauto.
      - pose proof (state_range _ positive _ _ _ R) as Range.
        pose proof (in_map (step f x) _ _ I1) as J1. pose proof (in_map (step f x) _ _ I2) as J2.
        replace (x + S k) with (S x + k) by lia.
        rewrite hits_from_cons. cbn [first_certified]. rewrite move_all_sure.
        destruct (loose h x) eqn:H.
        + cbn [sweep_hits]. rewrite (settled_question _ positive _ _ _ R Ne), (Two _ _ _ I1 I2 D).
          destruct (refines_hit _ _ _ R H Ne) as (R' & Q). fold (at_hit x live). rewrite Q.
          destruct (one_left _) eqn:O; trivial.
          destruct (one_left_none _ (fun E => Ne (map_eq_nil _ _ E)) O) as (b1 & b2 & K1 & K2 & Db).
          exact (IH _ _ _ _ _ R' K1 K2 Db).
        + (* force alone never makes two states meet *)
          assert (E : step f x a1 <> step f x a2).
          { pose proof (Range _ I1). pose proof (Range _ I2). unfold step.
            rewrite !plain_no_hit by trivial.
            destruct (Nat.eqb_spec x (a1 + max)), (Nat.eqb_spec x (a2 + max)); lia. }
          rewrite (Two _ _ _ J1 J2 E). exact (IH _ _ _ _ _ (refines_quiet _ _ _ R H) J1 J2 E).
    Qed.
  End Refinement.

  (** The sparse form is sound: at some [y] of the segment, what it returns is the last
      cut before [y] of every chunking that began before [p]. *)
  Theorem certify_sparse_sound : forall h p e c, nested h -> p <= e ->
    certify_sparse (recorded h p e) p e = Some c ->
    forall o, o < p ->
    exists y, p <= y <= e /\ last_cut_before min max (plain min normal max h) o y c.
  Proof.
    intros h p e c N Le E o L. unfold certify_sparse, recorded in E.
    replace e with (p + (e - p)) in E at 2 by lia.
    destruct (sweep_hits_after h N _ _ _ _ (refines_before max positive p ltac:(lia))
                (before_not_empty _ _ sizes' p ltac:(lia)) _ E) as (j & Lj & All).
    exists (p + j). split; [lia|]. assert (B := plain_bounded _ _ _ sizes h).
    pose proof (last_cut_exists _ _ sizes' _ B o p L) as La.
    rewrite <- (All (after (plain min normal max h) o (S o) (p - S o))).
    - now apply after_is_last_cut.
    - apply in_before. exact (last_cut_near _ _ sizes' _ B _ _ _ La).
  Qed.

  (** The sparse form equals the specification.

      Two states at least are needed at the start: a maximum and a seek point of 2 or
      more.  (Below that one state is left before a position is passed.  Then the
      sparse form may return it sooner; it stays sound.) *)
  Theorem certify_sparse_exact : forall h p e, nested h -> 2 <= max -> 2 <= p <= e ->
    certify_sparse (recorded h p e) p e = certify (plain min normal max h) max p e.
  Proof.
    intros h p e N Two L. unfold certify_sparse, recorded, certify, certify_by.
    replace e with (p + (e - p)) at 2 by lia.
    apply (sweep_hits_exact h N _ _ _ _ (p - 1) (p - 2));
      [apply (refines_before max positive); lia| | |lia]; apply in_before; lia.
  Qed.
End Plain.
